"""The project's own functions that follow events."""

from .calling import call_handler
from .registry import Handler, HandlerRegistry, Mode, TransactionScope, handler_registry, handles

__all__ = ["Handler", "HandlerRegistry", "Mode", "TransactionScope", "call_handler", "handler_registry", "handles"]

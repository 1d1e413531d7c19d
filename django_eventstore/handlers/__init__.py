"""The project's own functions that follow events."""

from .calling import call_handler
from .registry import Handler, HandlerRegistry, Mode, Start, TransactionScope, handler_registry, handles

__all__ = [
    "Handler",
    "HandlerRegistry",
    "Mode",
    "Start",
    "TransactionScope",
    "call_handler",
    "handler_registry",
    "handles",
]

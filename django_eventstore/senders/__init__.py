"""What delivers: one class each. They know nothing of the tables; what they need of an entry is handed to them."""

from .base import EventSender
from .handlers import HandlerSender

__all__ = ["EventSender", "HandlerSender"]

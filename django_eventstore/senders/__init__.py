"""What delivers: one class each. They know nothing of the tables; what they need of an entry is handed to them."""

from .base import Capabilities, EventSender
from .handlers import HandlerSender

__all__ = ["Capabilities", "EventSender", "HandlerSender"]

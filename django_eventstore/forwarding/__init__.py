"""Moving events on a schedule: the forwarder, its Celery task, and the task's period."""

from .forwarder import EventForwarder, Forwarded, close_senders, forward_all, make_sender

__all__ = ["EventForwarder", "Forwarded", "close_senders", "forward_all", "make_sender"]

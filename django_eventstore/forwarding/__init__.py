"""Moving events on a schedule: the forwarder, its Celery task, and the task's period."""

from .forwarder import EventForwarder, Forwarded, forget_forwarders, forward_all, let_go, make_sender

__all__ = ["EventForwarder", "Forwarded", "forget_forwarders", "forward_all", "let_go", "make_sender"]

"""Where Celery's autodiscovery finds the package's tasks."""

from .forwarding.celery import forward

__all__ = ["forward"]

"""To streams of Redis, a chunk in one transaction. Needs ``pip install 'django-eventstore[redis]'``."""

from .sender import RedisStreamSender

__all__ = ["RedisStreamSender"]

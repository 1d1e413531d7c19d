"""To a stream of NATS JetStream, with acknowledgements in flight. Needs ``pip install 'django-eventstore[nats]'``."""

from .sender import NATSSender

__all__ = ["NATSSender"]

"""To RabbitMQ by AMQP 0-9-1, with pipelined publisher confirms. Needs nothing that Celery does not bring."""

from .sender import RabbitMQSender

__all__ = ["RabbitMQSender"]

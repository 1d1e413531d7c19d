"""To Kafka by confluent-kafka, with an idempotent producer and a report for every message."""

try:
    import confluent_kafka  # noqa: F401 - only whether it is there
except ImportError as error:
    raise ImportError(
        "KafkaSender needs the package confluent-kafka: pip install 'django-eventstore[kafka]'"
    ) from error

from .sender import KafkaSender

__all__ = ["KafkaSender"]

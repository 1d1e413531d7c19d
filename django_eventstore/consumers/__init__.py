"""Named offsets in the log, and the loop that moves them."""

from .definition import Consumer, declared_consumer, declared_consumers
from .leases import Tenure, acquire
from .loop import ConsumerLoop, Run
from .offsets import OffsetStore, Progress
from .retry import RetryPolicy
from .skipping import skip
from .states import Readiness, clear_failure, pause, readiness, record_failure, resume

__all__ = [
    "Consumer",
    "ConsumerLoop",
    "OffsetStore",
    "Progress",
    "Readiness",
    "RetryPolicy",
    "Run",
    "Tenure",
    "acquire",
    "clear_failure",
    "declared_consumer",
    "declared_consumers",
    "pause",
    "readiness",
    "record_failure",
    "resume",
    "skip",
]

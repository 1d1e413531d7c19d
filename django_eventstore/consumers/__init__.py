"""Named offsets in the log, the loop that moves them, and what becomes of events that fail."""

from .decisions import discard, retry, skip
from .definition import Consumer, declared_consumer, declared_consumers
from .delivering import Delivery
from .inbox import forget_keys, once
from .leases import Tenure, acquire
from .loop import ConsumerLoop, Run
from .moving import move, set_partitions
from .offsets import OffsetStore, Progress
from .partitions import Partition
from .renaming import Standing, rename, retire
from .states import Readiness, clear_wait, pause, readiness, resume, wait

__all__ = [
    "Consumer",
    "ConsumerLoop",
    "Delivery",
    "OffsetStore",
    "Partition",
    "Progress",
    "Readiness",
    "Run",
    "Standing",
    "Tenure",
    "acquire",
    "clear_wait",
    "declared_consumer",
    "declared_consumers",
    "discard",
    "forget_keys",
    "move",
    "once",
    "pause",
    "readiness",
    "rename",
    "resume",
    "retire",
    "retry",
    "set_partitions",
    "skip",
    "wait",
]

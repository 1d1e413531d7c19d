"""How the log and its consumers are: answers for people and monitors. Nothing here moves an offset."""

from .findings import Finding, FindingKind
from .lag import Lag, lag_of
from .status import ConsumerState, ConsumerStatus, LogStatus, consumer_statuses, log_status
from .verify import Report, verify

__all__ = [
    "ConsumerState",
    "ConsumerStatus",
    "Finding",
    "FindingKind",
    "Lag",
    "LogStatus",
    "Report",
    "consumer_statuses",
    "lag_of",
    "log_status",
    "verify",
]

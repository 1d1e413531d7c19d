"""How the log and its consumers are: answers for people and monitors. Nothing here moves an offset."""

from .failures import (
    DecisionStatus,
    FailureStatus,
    Queued,
    decision_status,
    delivered_entry,
    delivery_decisions,
    failed_deliveries,
    failure_status,
    queued_behind,
)
from .findings import Finding, FindingKind
from .lag import Lag, lag_of
from .status import ConsumerState, ConsumerStatus, LogStatus, consumer_statuses, log_status
from .verify import Report, verify

__all__ = [
    "ConsumerState",
    "ConsumerStatus",
    "DecisionStatus",
    "FailureStatus",
    "Finding",
    "FindingKind",
    "Lag",
    "LogStatus",
    "Queued",
    "Report",
    "consumer_statuses",
    "decision_status",
    "delivered_entry",
    "delivery_decisions",
    "failed_deliveries",
    "failure_status",
    "lag_of",
    "log_status",
    "queued_behind",
    "verify",
]

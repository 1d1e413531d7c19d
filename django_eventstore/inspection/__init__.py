"""How the log and its consumers are: answers for people and monitors. Nothing here moves an offset."""

from .asyncapi import asyncapi
from .catalogue import Catalogue, EventDescription, HandlerDescription, Wanted, catalogue
from .changes import Change, changes_since
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
    "Catalogue",
    "Change",
    "ConsumerState",
    "ConsumerStatus",
    "DecisionStatus",
    "EventDescription",
    "FailureStatus",
    "Finding",
    "FindingKind",
    "HandlerDescription",
    "Lag",
    "LogStatus",
    "Queued",
    "Report",
    "Wanted",
    "asyncapi",
    "catalogue",
    "changes_since",
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

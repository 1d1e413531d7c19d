"""The test kit: what was recorded, delivering it at once, and finding handlers that cannot be called twice.

Every name works in a ``TestCase``, in a ``TransactionTestCase`` and with pytest-django. The mixin and the pytest fixtures are
the functions, told where the test began.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .assertions import aassert_not_recorded, aassert_recorded, assert_not_recorded, assert_recorded
    from .cases import EventStoreTestMixin
    from .draining import Drained, adrain, drain
    from .entry_lists import CapturedEvents, EntryList, captured_events
    from .failures import DeliveryFailed, EndlessDelivery, Failure
    from .faults import Faults
    from .freezing import freeze_forwarding
    from .idempotence import aassert_idempotent, assert_idempotent
    from .observation import database_state
    from .recording_sender import RecordingSender

__all__ = [
    "CapturedEvents",
    "DeliveryFailed",
    "Drained",
    "EndlessDelivery",
    "EntryList",
    "EventStoreTestMixin",
    "Failure",
    "Faults",
    "RecordingSender",
    "aassert_idempotent",
    "aassert_not_recorded",
    "aassert_recorded",
    "adrain",
    "assert_idempotent",
    "assert_not_recorded",
    "assert_recorded",
    "captured_events",
    "database_state",
    "drain",
    "freeze_forwarding",
]

# pytest imports the plugin, and so this package, before Django has its settings.
_HOMES = {
    "CapturedEvents": "entry_lists",
    "DeliveryFailed": "failures",
    "Drained": "draining",
    "EndlessDelivery": "failures",
    "EntryList": "entry_lists",
    "EventStoreTestMixin": "cases",
    "Failure": "failures",
    "Faults": "faults",
    "RecordingSender": "recording_sender",
    "aassert_idempotent": "idempotence",
    "aassert_not_recorded": "assertions",
    "aassert_recorded": "assertions",
    "adrain": "draining",
    "assert_idempotent": "idempotence",
    "assert_not_recorded": "assertions",
    "assert_recorded": "assertions",
    "captured_events": "entry_lists",
    "database_state": "observation",
    "drain": "draining",
    "freeze_forwarding": "freezing",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

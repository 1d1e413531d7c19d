"""EventStoreTestMixin: the kit as methods of a test case."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models

from ..models import EventEntry
from .assertions import assert_not_recorded, assert_recorded
from .draining import Consumers, Drained, Senders, drain
from .entry_lists import CapturedEvents, EntryList, captured_events
from .faults import Faults
from .idempotence import Repeat, assert_idempotent

if TYPE_CHECKING:
    from django.test import TransactionTestCase as _Case
else:
    _Case = object

__all__ = ["EventStoreTestMixin"]


class EventStoreTestMixin(_Case):
    """For ``TestCase`` and ``TransactionTestCase``; stands before them: ``class CancelTests(EventStoreTestMixin, TestCase)``.

    Assertions look at what was recorded since the test began: setUp() counts, setUpTestData() and fixtures do not.
    """

    eventstore_using: ClassVar[str | None] = None
    """The database alias of the log; by default that of record()."""

    _recorded: CapturedEvents | None = None

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Run the test, and know where it began."""
        if not _is_skipped(self):
            try:
                self._recorded = CapturedEvents.since_now(self.eventstore_using)
            except Exception:
                if result is None:
                    raise
                result.addError(self, sys.exc_info())  # as Django does when its own fixtures fail
                return result
        return super().run(result)

    def debug(self) -> None:
        """Run the test without collecting the result."""
        self._recorded = None  # the fixtures come later, and with them the database
        super().debug()

    @property
    def recorded_events(self) -> CapturedEvents:
        """What was recorded since the test began, a sequence with ``of(type)``."""
        if self._recorded is None:
            raise AssertionError("The test has not begun: it is run by run(), not by debug().")
        return self._recorded

    def assert_recorded(
        self,
        event: object,
        /,
        *,
        stream: models.Model | str | None = None,
        times: int | None = None,
        metadata: Mapping[str, object] | None = None,
        fields: Mapping[str, object] | None = None,
        within: Sequence[EventEntry] | None = None,
        **more: object,
    ) -> EntryList:
        """See django_eventstore.testing.assert_recorded(); looks at what was recorded since the test began."""
        where = self.recorded_events if within is None else within
        return assert_recorded(
            event, stream=stream, times=times, metadata=metadata, fields=fields, within=where, using=None, **more
        )

    def assert_not_recorded(
        self,
        event: object,
        /,
        *,
        stream: models.Model | str | None = None,
        metadata: Mapping[str, object] | None = None,
        fields: Mapping[str, object] | None = None,
        within: Sequence[EventEntry] | None = None,
        **more: object,
    ) -> None:
        """See django_eventstore.testing.assert_not_recorded(); looks at what was recorded since the test began."""
        where = self.recorded_events if within is None else within
        assert_not_recorded(event, stream=stream, metadata=metadata, fields=fields, within=where, using=None, **more)

    @classmethod
    def captured_events(cls) -> AbstractContextManager[CapturedEvents]:
        """See django_eventstore.testing.captured_events()."""
        return captured_events(using=cls.eventstore_using)

    @classmethod
    def drain(
        cls,
        *,
        consumers: Consumers = None,
        senders: Senders = "record",
        faults: Faults | None = None,
        until_quiet: bool = True,
        raise_errors: bool = True,
    ) -> Drained:
        """See django_eventstore.testing.drain(). Also in setUpTestData()."""
        return drain(
            consumers=consumers,
            using=cls.eventstore_using,
            senders=senders,
            faults=faults,
            until_quiet=until_quiet,
            raise_errors=raise_errors,
        )

    @classmethod
    def assert_idempotent(
        cls,
        observe: Callable[[], object] | None = None,
        *,
        consumers: Consumers = None,
        repeat: Repeat = "rewind",
    ) -> Drained:
        """See django_eventstore.testing.assert_idempotent()."""
        return assert_idempotent(observe, consumers=consumers, using=cls.eventstore_using, repeat=repeat)


def _is_skipped(case: Any) -> bool:
    """Whether unittest will not run it; then there are no fixtures and no database either."""
    method = getattr(case, case._testMethodName)
    return bool(getattr(type(case), "__unittest_skip__", False) or getattr(method, "__unittest_skip__", False))

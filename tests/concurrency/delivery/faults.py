"""Wrong ways to deliver, planted in a worker to see that the suite finds them. The package knows of nothing here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from django.db import transaction


def plant(name: str) -> None:
    """For the rest of this process."""
    FAULTS[name]()


@contextmanager
def planted_here(name: str) -> Iterator[None]:
    """In the test's own process, for a while; only of what changes the number of partitions."""
    from django_eventstore.consumers import moving

    with mock.patch.object(moving, "_hold", moving._hold):
        if name:
            plant(name)
        yield


def _advance_without_token() -> None:
    from django_eventstore.consumers import offsets

    wrong = offsets.ADVANCE.replace("AND l.token = %s", "AND %s IS NOT NULL")
    assert wrong != offsets.ADVANCE
    offsets.ADVANCE = wrong  # type: ignore[misc]


def _free_stream_afterwards() -> None:
    """The queue moves on in a transaction of its own, after that of the effect."""
    from django_eventstore.consumers.retrying import Retrial

    saver = Retrial._saver

    def wrong(retrial: Any, queue: Any) -> Callable[[int], None]:
        save = saver(retrial, queue)
        return lambda position: transaction.on_commit(lambda: save(position))

    Retrial._saver = wrong  # type: ignore[method-assign]


def _forget_passed_by() -> None:
    """What was passed by for a blocked stream is no reason to save the offset."""
    from django_eventstore.consumers.keeping import Tenancy

    is_next = Tenancy._is_next

    def wrong(work: Any, entry: Any) -> bool:
        found = is_next(work, entry)
        work.has_passed_by = False
        return found

    Tenancy._is_next = wrong  # type: ignore[method-assign]


def _save_before_send() -> None:
    from django_eventstore.consumers.delivering import Delivery
    from django_eventstore.consumers.failures import position_of

    send = Delivery.send

    def wrong(delivery: Any, entries: Any, *, save: Any, **given: Any) -> Any:
        if given.get("queue") is None:
            save(position_of(entries[-1]))
        return send(delivery, entries, save=save, **given)

    Delivery.send = wrong  # type: ignore[method-assign]


def _put_aside_afterwards() -> None:
    """The offset passes a failed event before the event is put aside."""
    from django_eventstore.consumers.delivering import Delivery
    from django_eventstore.consumers.failures import position_of

    save_all = Delivery._save

    def wrong(delivery: Any, entries: Any, refused: Any, save: Any, upto: Any, queue: Any) -> None:
        if refused and queue is None:
            save(upto or position_of(entries[-1]))
        save_all(delivery, entries, refused, save, upto, queue)

    Delivery._save = wrong  # type: ignore[method-assign]


def _trust_memory_after_retry() -> None:
    """Which streams are blocked is read once in a tenure, whatever was retried."""
    from django_eventstore.consumers.retrying import Retrial

    run = Retrial.run

    def wrong(retrial: Any) -> bool:
        kept = set(retrial.book._blocked)
        can_go_on = run(retrial)
        retrial.book._blocked |= kept
        return can_go_on

    Retrial.run = wrong  # type: ignore[method-assign]


def _keep_token() -> None:
    """Another number of partitions leaves the tokens as they are. Planted where the number is changed."""
    import dataclasses

    from django_eventstore.consumers import moving

    hold = moving._hold

    def wrong(*arguments: Any, **keywords: Any) -> Any:
        standing = hold(*arguments, **keywords)
        return dataclasses.replace(standing, token=standing.token - 1)

    moving._hold = wrong


def _end_queue_at_partition() -> None:
    """The queue of a blocked stream ends at its partition's offset, also where its slot is ahead."""
    from django_eventstore.consumers.retrying import Retrial

    read = Retrial._read

    def wrong(retrial: Any, row: Any) -> Any:
        import dataclasses

        return read(dataclasses.replace(retrial, ahead={}), row)

    Retrial._read = wrong  # type: ignore[method-assign]


def _believe_errors() -> None:
    """An error that came after saving means that nothing was saved. What is cut off from its answer finds it, by chance."""
    from django_eventstore.consumers.delivering import Delivery

    Delivery._is_saved = lambda delivery, position, queue: False  # type: ignore[method-assign]


FAULTS: dict[str, Callable[[], None]] = {
    "advance without token": _advance_without_token,
    "stream freed afterwards": _free_stream_afterwards,
    "passed by and not saved": _forget_passed_by,
    "saved before sent": _save_before_send,
    "put aside afterwards": _put_aside_afterwards,
    "memory trusted after retry": _trust_memory_after_retry,
    "token kept": _keep_token,
    "errors believed": _believe_errors,
    "queue ends at partition": _end_queue_at_partition,
}

"""Plays that end in what the sinks saw: a worker dies at a step, or is frozen at one until another has taken over, …"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django_eventstore.models import FailedDelivery
from tests.concurrency.delivery import faults
from tests.concurrency.delivery.outcome import Violation
from tests.concurrency.delivery.play import Play, until
from tests.concurrency.delivery.sinks import FAR_APART, LIMIT

Drama = Callable[[Play, str], list[Violation]]


def _set_the_scene(play: Play, **options: Any) -> None:
    """A stream is blocked with a queue behind it, another one will fail, and there is more for all of them."""
    play.make_bad("s-0")
    play.record(rounds=2)
    play.pass_time()
    play.run(**options)
    play.record(rounds=2)
    play.make_bad("s-1")
    play.pass_time()


def die_at(play: Play, step: str, *, at: str, hit: int = 1, **options: Any) -> bool:
    """Kill a worker at a step of retrying, putting aside and delivering. Returns whether it came to the step.

    ``at``: the consumer that it works for.
    """
    _set_the_scene(play, **options)
    worker = play.fork(step=step, hit=hit, **{**options, "consumers": (at,)})
    is_hit = worker.frozen()
    if is_hit:
        worker.kill9()
    play.drain(**options)
    return is_hit


def freeze_at(play: Play, step: str, *, at: str, later: int = 3, **options: Any) -> bool:
    """Freeze it there, let another one take over and go on, and wake it. Returns whether it came to the step."""
    _set_the_scene(play, **options)
    frozen = play.fork(step=step, **{**options, "consumers": (at,)})
    is_hit = frozen.frozen()
    play.make_bad()
    play.record(rounds=later)
    until(lambda: _take_over(play, **options), "another worker takes over from the frozen one")
    if is_hit:
        frozen.cont()
    frozen.wait(check=False)
    play.drain(**options)
    return is_hit


def _take_over(play: Play, **options: Any) -> bool:
    play.pass_time()
    play.run(**options)
    return play.is_done(options["consumers"])


def killed_before_sending(play: Play, fault: str) -> list[Violation]:
    assert die_at(play, "after prepare", at="outside", hit=3, consumers=("outside",), fault=fault)
    return play.violations(consumers=("outside",))


def killed_while_a_stream_catches_up(play: Play, fault: str) -> list[Violation]:
    assert die_at(play, "before move on", at="effects", consumers=("effects",), fault=fault)
    return play.violations(consumers=("effects",))


def killed_while_putting_aside(play: Play, fault: str) -> list[Violation]:
    assert die_at(play, "before put aside", at="outside", consumers=("outside",), fault=fault)
    return play.violations(consumers=("outside",))


def frozen_between_send_and_save(play: Play, fault: str) -> list[Violation]:
    """The other one comes several batches further, and the first one does not know that its lease is over."""
    options: dict[str, Any] = {"consumers": ("outside",), "lease": 60.0}
    play.record()
    frozen = play.fork(step="before save", fault=fault, **options)
    assert frozen.frozen()
    play.record(rounds=2 * LIMIT)
    until(lambda: _take_over(play, **options), "another worker takes over from the frozen one")
    frozen.cont()
    frozen.wait()
    play.drain(**options)
    return play.violations(consumers=("outside",))


def healed_in_one_tenure(play: Play, fault: str) -> list[Violation]:
    """A stream is blocked and freed by the same process, with events that were passed by and others that are new."""
    options: dict[str, Any] = {"consumers": ("effects",), "fault": fault}
    stop = play.directory / f"stop-{fault}"
    play.make_bad("s-0")
    play.record(rounds=2)
    worker = play.fork(stop=str(stop), settings={}, **options)
    until(FailedDelivery.objects.using(play.using).exists, "the stream is blocked")
    play.record("s-0", rounds=3)
    until(lambda: FailedDelivery.objects.filter(tries__gt=2).exists(), "it is tried again")
    play.make_bad()
    play.record(rounds=1)
    until(lambda: not FailedDelivery.objects.using(play.using).exists(), "the stream is free")
    play.record(rounds=1)
    stop.touch()
    worker.wait()
    play.drain(**options)
    return play.violations(consumers=("effects",))


def healed_and_recorded_meanwhile(play: Play, fault: str) -> list[Violation]:
    """What is new of the stream comes in the tenure that frees it."""
    options: dict[str, Any] = {"consumers": ("effects",), "fault": fault}
    play.make_bad("s-0")
    play.record(rounds=2)
    play.run(**options)
    play.make_bad()
    play.record(rounds=1)
    play.pass_time()
    play.run(**options)
    play.drain(**options)
    return play.violations(consumers=("effects",))


def _streams_of_both_halves(play: Play) -> None:
    play.record(*FAR_APART, rounds=2)


def divided_while_one_is_frozen(play: Play, fault: str) -> list[Violation]:
    """Two partitions become one while a worker of the first is between send and save."""
    options: dict[str, Any] = {"consumers": ("outside",)}
    play.divide(2)
    play.record(*FAR_APART, rounds=2)
    frozen = play.fork(step="before save", **options)
    assert frozen.frozen()
    with faults.planted_here(fault):
        play.divide(1)
    frozen.cont()
    frozen.wait()
    play.drain(**options)
    return play.violations(consumers=("outside",))


def regrouped_with_a_blocked_stream(play: Play, fault: str) -> list[Violation]:
    """A stream is blocked in a partition that is ahead; then its slot is in one that is behind."""
    options: dict[str, Any] = {"consumers": ("outside",), "fault": fault}
    play.divide(2)
    play.record(*FAR_APART, rounds=2)
    play.make_bad(*FAR_APART)
    # The first partition is held by somebody who dies: only the second one comes on.
    frozen = play.fork(step="after acquire", **options)
    assert frozen.frozen()
    play.run(**options)
    frozen.kill9()
    play.divide(1)
    play.drain(**options)
    return play.violations(consumers=("outside",))

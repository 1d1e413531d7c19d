"""The port: what delivers a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod

from django.core.checks import CheckMessage

from ..delivery import Batch, Outcome

__all__ = ["EventSender"]


class EventSender(ABC):
    """Delivers batches of one consumer. Configured by path: ``{"SENDER": path, "OPTIONS": {…}}``; options are keywords.

    One instance per process and consumer, made on first use, so that a connection is never shared across a fork.
    """

    @abstractmethod
    def send(self, batch: Batch) -> Outcome:
        """Deliver the batch and say what became of it.

        ``Outcome(done=n, refused={position: error})``: each of the first n entries was accepted (for good: a confirm of the
        receiver, a commit) unless its position is named in ``refused``; of the rest nothing is claimed, and they come
        again. An exception means that the sender as a whole is unavailable: nothing more is claimed, no entry is blamed,
        and the consumer waits and tries again.
        """

    def check(self) -> list[CheckMessage]:
        """System check messages about this sender's options."""
        return []

    def close(self) -> None:  # noqa: B027 - many senders have nothing to close
        """Let go of connections; called when the worker stops. The next send() opens them again."""

"""One batch as one transaction of Kafka, under an id that only one producer has at a time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from confluent_kafka import KafkaException

from .publication import GRACE, Publication

__all__ = ["Transaction"]


@dataclass(slots=True, kw_only=True)
class Transaction(Publication):
    """A publication of which those who read committed messages see all, or nothing.

    An entry is accepted when the transaction has committed. A message that is refused ends the transaction: it is aborted,
    and another one is to be made without it.
    """

    _reported: list[int] = field(default_factory=list, init=False)

    def run(self) -> bool:
        """Raises when the brokers are not available, or another producer has taken the id over; nothing is claimed then.

        When the lease has ended nothing is claimed either: whoever has it now sends the batch as a whole.
        """
        try:
            self.link.begin()
            self.link.begin_transaction()
            whole = self.produce()
            self.wait(most=0)
            if not (whole and self.batch.still_held()):
                self.link.abort_transaction(GRACE)
                return True
            self.link.commit_transaction(self.silence.total_seconds())
        except BaseException as error:
            self._hear_out(error)
            if self._blamed and self._aborted():
                return False
            self._drop()
            with contextlib.suppress(KafkaException):
                # Or those who read committed messages would wait for its time-out, or for the next producer.
                self.link.abort_transaction(GRACE)
            self._raise_better(error)
            raise
        for number in self._reported:
            self.receipts.accept(number)
        return True

    def accepted(self, number: int) -> None:
        self._reported.append(number)

    def _aborted(self) -> bool:
        """Whether the transaction could be aborted; then it has left nothing that hangs."""
        try:
            self.link.abort_transaction(GRACE)
        except KafkaException:
            return False
        # What was refused has had sequence numbers. librdkafka goes on behind them, unless something of the producer was in
        # flight behind it, and the brokers, which have not seen them, would take nothing of its next transaction.
        self.link.drop()
        return True

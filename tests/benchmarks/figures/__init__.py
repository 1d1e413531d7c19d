"""All figures, in the order of the table."""

from tests.benchmarks.definition import Figure
from tests.benchmarks.figures import (
    backlog,
    bulk,
    draining,
    handwritten,
    idle,
    kafka,
    latency,
    nats,
    open_transaction,
    pages,
    poison,
    rabbitmq,
    record_one,
    redis,
    sequencing,
    webhooks,
    woken,
    writers,
)

__all__ = ["FIGURES"]

FIGURES: dict[str, Figure] = {
    figure.name: figure
    for figure in (
        record_one.FIGURE,
        writers.FIGURE,
        bulk.FIGURE,
        sequencing.SEVERAL,
        sequencing.SINGLE,
        idle.IDLE,
        idle.BESIDE,
        pages.FIGURE,
        draining.BATCH,
        draining.EVENT,
        latency.FIGURE,
        handwritten.FIGURE,
        backlog.FIGURE,
        poison.FIGURE,
        open_transaction.FIGURE,
        woken.FIGURE,
        rabbitmq.FIGURE,
        kafka.FIGURE,
        nats.FIGURE,
        redis.FIGURE,
        webhooks.FIGURE,
    )
}

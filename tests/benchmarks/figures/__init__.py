"""All figures, in the order of the table."""

from tests.benchmarks.definition import Figure
from tests.benchmarks.figures import bulk, draining, idle, pages, rabbitmq, record_one, sequencing, writers

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
        rabbitmq.FIGURE,
    )
}

"""Webhooks: one consumer serves any number of endpoints, and each delays only itself.

More than a sender, so a room of its own: endpoints are rows, and a sender knows of no tables. It stands above the consumers,
whose offsets it reads; nothing below knows of it, and a project names ``WebhookSender`` as any other sender.

*Two kinds of endpoints.* Most **go along** with their consumer: the column ``offset`` is NULL, they have what the
consumer has, and cost one read a batch. One that fails, or keeps a batch waiting for longer than ``patience``, is
**left behind**: its row gets an offset of its own, up to which it has everything, *before* the batch that goes on
without it is claimed to be done. From then on it is sent to from the log by that offset, with its own waits after
failures, by threads that any tick of any process starts (``EventSender.tend``); a claim on its row sees to it that one
thread does so at a time. It goes no further than the consumer's saved offset, where it **joins** again when a batch begins:
it has all that is wanted up to there, and the batch is what comes next. The lease is compared in the transaction that lets
it join: who has lost it would take the endpoint into a batch that another worker claims without it. One that answers slowly
stays on its own; a new one begins so. A consumer that is moved back takes all of them along.

*What is guaranteed.* Each endpoint gets each event that it and its consumer want at least once, in the order of the
log; an event that it does not accept is tried again, and nothing behind it is sent to that endpoint before. A process
that dies leaves either the consumer's offset or the endpoint's where they were last saved: events come again, none is
lost. A late write of a worker that has lost its lease or its claim changes no row that somebody else holds, or sets an
endpoint back to where it had been: again repeats, never a gap.
"""

from .endpoints import create_endpoint, disable, enable, replay, rotate_secret, send_test_event, skip
from .sender import WebhookSender

__all__ = [
    "WebhookSender",
    "create_endpoint",
    "disable",
    "enable",
    "replay",
    "rotate_secret",
    "send_test_event",
    "skip",
]

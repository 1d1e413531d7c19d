"""What everybody above may read of an entry; the model itself is one."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

__all__ = ["DeliveredEntry"]


class DeliveredEntry(Protocol):
    """What a sender may read of an entry; ``EventEntry`` is one."""

    event_id: UUID
    type: str
    version: int
    content_type: str
    payload: str
    stream: str
    stream_version: int | None
    metadata: str
    timestamp: datetime
    correlation_id: str | None
    causation_id: str | None
    subject: str | None
    position: int | None
    is_replay: bool

"""Event ids: UUID version 7, so that they sort by time."""

from __future__ import annotations

import os
import time
from uuid import UUID

__all__ = ["uuid7", "uuid7_bytes"]

VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
RANDOM_BITS = ~((0xF << 76) | (0x3 << 62)) & ((1 << 80) - 1)


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    return UUID(bytes=uuid7_bytes(1)[0])


def uuid7_bytes(count: int) -> list[bytes]:
    """As many ids of one moment, each as its 16 bytes; their randomness is drawn at once."""
    head = time.time_ns() // 1_000_000 << 80 | VERSION_AND_VARIANT
    random = os.urandom(10 * count)
    from_bytes = int.from_bytes
    return [
        (head | from_bytes(random[start : start + 10], "big") & RANDOM_BITS).to_bytes(16, "big")
        for start in range(0, 10 * count, 10)
    ]

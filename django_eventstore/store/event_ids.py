"""Event ids: UUID version 7, so that they sort by time."""

from __future__ import annotations

import os
import time
from uuid import UUID

__all__ = ["uuid7"]

VERSION_AND_VARIANT = (0x7 << 76) | (0x2 << 62)
RANDOM_BITS = ~((0xF << 76) | (0x3 << 62)) & ((1 << 80) - 1)


def uuid7() -> UUID:
    """48 bits of Unix milliseconds, then 74 random bits (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    return UUID(int=milliseconds << 80 | int.from_bytes(os.urandom(10), "big") & RANDOM_BITS | VERSION_AND_VARIANT)

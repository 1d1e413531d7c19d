"""Signatures as Standard Webhooks 1.0.0 has them, symmetric: what is signed, how, and the form of a secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Iterable

__all__ = ["new_secret", "secret_key", "signature_headers"]

PREFIX = "whsec_"
BYTES = 32
LEAST_BYTES, MOST_BYTES = 24, 64


def new_secret() -> str:
    """A random secret: ``whsec_`` and 32 bytes in base64."""
    return PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()


def secret_key(secret: str) -> bytes:
    """The bytes of a secret. Raises ValueError, which does not repeat the secret, unless they are 24 to 64."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not (secret.startswith(PREFIX) and LEAST_BYTES <= len(key) <= MOST_BYTES):
        raise ValueError(f"A secret is '{PREFIX}' and {LEAST_BYTES} to {MOST_BYTES} bytes in base64.")
    return key


def signature_headers(*, id: str, timestamp: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """The three headers. One signature per key, so that a receiver may hold the old secret or the new one.

    ``id``: the same for each try of an event. ``timestamp``: of this try, in seconds since 1970.
    """
    signed = b"%b.%d.%b" % (id.encode(), timestamp, body)
    signatures = (base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }

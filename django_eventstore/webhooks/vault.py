"""How secrets are kept: encrypted, by keys that are derived from SECRET_KEY and its SECRET_KEY_FALLBACKS."""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

try:
    from cryptography import fernet
except ImportError:  # an extra: the base package works without it
    fernet = None  # type: ignore[assignment]

__all__ = ["SecretUnreadable", "can_encrypt", "decrypt", "encrypt"]

MISSING = "Webhooks keep their secrets encrypted: pip install 'django-eventstore[webhooks]'"
PURPOSE = b"django_eventstore.webhooks.secret"


class SecretUnreadable(Exception):
    """A stored secret was encrypted by another SECRET_KEY. Put that one into SECRET_KEY_FALLBACKS, or rotate the secret."""

    def __init__(self) -> None:
        super().__init__((self.__doc__ or "").strip())


def can_encrypt() -> bool:
    """Whether ``cryptography`` is installed."""
    return fernet is not None


def encrypt(secret: str) -> str:
    """The text to store. Raises ImproperlyConfigured without ``cryptography``."""
    return _box().encrypt(secret.encode()).decode()


def decrypt(stored: str) -> str:
    """The secret. Raises SecretUnreadable when no key of the settings fits."""
    try:
        return _box().decrypt(stored.encode()).decode()
    except fernet.InvalidToken as error:
        raise SecretUnreadable from error


def _box() -> MultiFernet:
    if fernet is None:
        raise ImproperlyConfigured(MISSING)
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return fernet.MultiFernet([fernet.Fernet(_derived(key)) for key in keys])


def _derived(key: str | bytes) -> bytes:
    secret = key.encode() if isinstance(key, str) else key
    return base64.urlsafe_b64encode(hmac.digest(secret, PURPOSE, hashlib.sha256))

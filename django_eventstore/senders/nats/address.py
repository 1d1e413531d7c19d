"""Where a NATS server is, and how to speak to it. Nothing is connected to here."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

__all__ = ["Address"]

SCHEMES = ("nats", "tls")
TLS_OPTIONS = ("ca_certs", "certfile", "keyfile", "cert_reqs", "server_hostname")


@dataclass(frozen=True, slots=True)
class Address:
    """Servers to be tried in turn, and the options of TLS. A bad one raises ValueError, which does not tell the password."""

    url: str = field(repr=False)
    tls: Mapping[str, object]

    def __post_init__(self) -> None:
        for url in self.urls:
            if not _is_right(url):
                raise ValueError(
                    "url must be like 'nats://user:password@host:4222' or 'tls://host', or several joined by ';', "
                    f"got one that begins with {url.partition('://')[0][:20]!r}."
                )
        unknown = set(self.tls) - set(TLS_OPTIONS)
        if unknown:
            raise ValueError(f"tls takes {', '.join(TLS_OPTIONS)}, got {', '.join(sorted(unknown))}.")

    @property
    def urls(self) -> list[str]:
        return self.url.split(";") if isinstance(self.url, str) else [str(self.url)]

    def is_encrypted(self, url: str) -> bool:
        """Whether nothing may be said to this server in plain text."""
        return bool(self.tls) or url.startswith("tls://")

    @property
    def host_name(self) -> str | None:
        """The name that its certificate must be for, when it is not that of the URL."""
        name = self.tls.get("server_hostname")
        return None if name is None else str(name)

    def context(self) -> ssl.SSLContext:
        """Verifies certificate and name, unless ``cert_reqs`` says otherwise. Raises OSError for a file that is not there."""
        authorities, certificate, key = (self._text(name) for name in ("ca_certs", "certfile", "keyfile"))
        context = ssl.create_default_context(cafile=authorities)
        if certificate is not None:
            context.load_cert_chain(certificate, key)
        if self.tls.get("cert_reqs") == ssl.CERT_NONE:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    def _text(self, name: str) -> str | None:
        value = self.tls.get(name)
        return None if value is None else str(value)


def _is_right(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in SCHEMES and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False

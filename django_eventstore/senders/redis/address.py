"""Where a Redis server or cluster is, and how to speak to it. Nothing is connected to here."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

__all__ = ["Address"]

TLS_OPTIONS = ("ca_certs", "certfile", "keyfile", "cert_reqs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One server, or nodes of one cluster. A bad one raises ValueError, which does not tell the password.

    ``connect`` is the longest wait for a connection, ``silence`` that for each answer.
    """

    url: str = field(repr=False)
    cluster: bool
    tls: Mapping[str, object]
    connect: timedelta
    silence: timedelta

    def __post_init__(self) -> None:
        schemes = ("redis", "rediss") if self.cluster else ("redis", "rediss", "unix")
        for url in self.urls:
            if not _is_right(url, schemes):
                raise ValueError(
                    "url must be like 'redis://user:password@host:6379/0', 'rediss://host' or 'unix:///path', "
                    f"for a cluster no 'unix', got one that begins with {url.partition('://')[0][:20]!r}."
                )
        if len(self.urls) > 1 and not self.cluster:
            raise ValueError(
                "url must be a single one; several joined by ';' are nodes of a cluster, with cluster=True."
            )
        if len({url.partition("://")[0] for url in self.urls}) > 1:
            raise ValueError("url must be encrypted for all nodes of a cluster, or for none.")
        unknown = set(self.tls) - set(TLS_OPTIONS)
        if unknown:
            raise ValueError(f"tls takes {', '.join(TLS_OPTIONS)}, got {', '.join(sorted(unknown))}.")
        if self.tls and not self._is_encrypted:
            raise ValueError("tls is for a url that begins with 'rediss://'.")

    @property
    def urls(self) -> list[str]:
        return self.url.split(";") if isinstance(self.url, str) else [str(self.url)]

    def options(self) -> dict[str, Any]:
        """What redis-py is told beside the URL."""
        # RESP 2, since in RESP 3 the server may speak without being asked.
        options: dict[str, Any] = {
            "socket_timeout": self.silence.total_seconds(),
            "socket_connect_timeout": self.connect.total_seconds(),
            "protocol": 2,
        }
        if self._is_encrypted:
            verifies = self.tls.get("cert_reqs") != ssl.CERT_NONE
            options["ssl_cert_reqs"] = "required" if verifies else "none"
            options["ssl_check_hostname"] = verifies
            for name in ("ca_certs", "certfile", "keyfile"):
                if self.tls.get(name) is not None:
                    options[f"ssl_{name}"] = str(self.tls[name])
        return options

    @property
    def _is_encrypted(self) -> bool:
        return all(url.startswith("rediss://") for url in self.urls)


def _is_right(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        where = parts.path if parts.scheme == "unix" else parts.hostname
        return parts.scheme in schemes and bool(where) and parts.port != 0
    except ValueError:
        return False

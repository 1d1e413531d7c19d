"""Certificates for servers of one test, made by openssl."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

__all__ = ["Certificates", "tls_of"]


class Certificates:
    """A certificate for 127.0.0.1 that it has signed itself, and one for another name: paths of certificate and key."""

    def __init__(self, directory: Path) -> None:
        self.here = self._make(directory / "here", "IP:127.0.0.1")
        self.elsewhere = self._make(directory / "elsewhere", "DNS:elsewhere.example")

    def _make(self, stem: Path, name: str) -> tuple[str, str]:
        certificate, key = f"{stem}.pem", f"{stem}.key"
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test"]
        files = ["-keyout", key, "-out", certificate]
        command = ["openssl", "req", "-x509", *kind, "-addext", f"subjectAltName={name}", *files]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
        return certificate, key


def tls_of(certificate: tuple[str, str]) -> ssl.SSLContext:
    """What a server needs that shows this one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context

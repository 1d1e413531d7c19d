"""Certificates of our own for a server on this machine."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path


def make_certificate(directory: Path, name: str) -> tuple[str, str]:
    """The files of a self-signed certificate for ``DNS:…`` or ``IP:…``, and of its key."""
    stem = directory / name.replace(":", "_")
    certificate, key = f"{stem}.pem", f"{stem}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=test"]
    files = ["-keyout", key, "-out", certificate]
    # Since Python 3.13 an authority must say that it may sign.
    extensions = ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    command = ["openssl", "req", "-x509", *kind, *extensions, *files]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return certificate, key


def server_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context

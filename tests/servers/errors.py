"""What can go wrong with a server that a test wants for itself."""

from __future__ import annotations


class ServerMissing(Exception):
    """A program that the test needs is not on this machine. The message says what to install."""


class ServerFailed(Exception):
    """A server program ended with an error or did not answer in time. The message carries the end of its output."""

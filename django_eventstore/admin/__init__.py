"""The log and its consumers in Django's admin, on the default site. Each module registers what it shows."""

from . import consumers, decisions, endpoints, entries, epochs, failures

__all__ = ["consumers", "decisions", "endpoints", "entries", "epochs", "failures"]

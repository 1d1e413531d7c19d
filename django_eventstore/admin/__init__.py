"""The log and its consumers in Django's admin, on the default site. Each module registers what it shows."""

from . import consumers, entries, epochs

__all__ = ["consumers", "entries", "epochs"]

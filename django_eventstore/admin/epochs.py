"""The histories of the log."""

from __future__ import annotations

from django.contrib import admin

from ..models import Epoch
from .read_only import ReadOnlyAdmin

__all__ = ["EpochAdmin"]


@admin.register(Epoch)
class EpochAdmin(ReadOnlyAdmin):
    """The newest number is in force. A new one is begun with the command ``eventstore_epoch``."""

    list_display = ("number", "log", "began_after", "began_at", "reason")
    fields = list_display
    ordering = ("-number",)
    show_full_result_count = False

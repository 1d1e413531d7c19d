"""Who may read the log."""

from __future__ import annotations

from django.contrib.auth import get_permission_codename
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.views import APIView

from ..models import EventEntry

__all__ = ["MayReadEvents"]


class MayReadEvents(BasePermission):
    """Known users with the permission to view events. Reading the log is reading everybody's data."""

    def has_permission(self, request: Request, view: APIView) -> bool:
        options = EventEntry._meta
        permission = f"{options.app_label}.{get_permission_codename('view', options)}"
        user = request.user
        # None where the project sets REST_FRAMEWORK["UNAUTHENTICATED_USER"] so.
        return user is not None and user.is_authenticated and user.has_perm(permission)

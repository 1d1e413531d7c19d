"""Permissions of users: made when a test asks for them, since a run of the tests has none; see `without_permissions`."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.management import create_contenttypes
from django.db.models.signals import post_migrate


def permit(user: User, *codenames: str) -> None:
    """Give the user these permissions of the package. Raises ValueError when it has no such permission."""
    create_permissions(apps.get_app_config("django_eventstore"), verbosity=0)
    permissions = list(Permission.objects.filter(content_type__app_label="django_eventstore", codename__in=codenames))
    if unknown := {*codenames} - {permission.codename for permission in permissions}:
        raise ValueError(f"no permission {', '.join(sorted(unknown))}")
    user.user_permissions.add(*permissions)


def without_permissions() -> None:
    """From now on ``migrate`` and ``flush`` of this process make no permissions and no content types.

    Both are made anew for every app after every test with real commits, and took most of the time of such a test.
    """
    removed = [
        post_migrate.disconnect(dispatch_uid="django.contrib.auth.management.create_permissions"),
        post_migrate.disconnect(create_contenttypes),
    ]
    assert all(removed), removed

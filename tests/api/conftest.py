from __future__ import annotations

import pytest
from django.contrib.auth.models import Permission, User
from rest_framework.test import APIClient


@pytest.fixture
def reader(db: None) -> User:
    """A user who may view events and nothing else."""
    user = User.objects.create_user("reader", password="reader")
    user.user_permissions.add(Permission.objects.get(codename="view_evententry"))
    return user


@pytest.fixture
def client(reader: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(reader)
    return client

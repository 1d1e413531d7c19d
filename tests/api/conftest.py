from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from rest_framework.test import APIClient

from tests.permissions import permit


@pytest.fixture
def reader(db: None) -> User:
    """A user who may view events and nothing else."""
    user = User.objects.create_user("reader", password="reader")
    permit(user, "view_evententry")
    return user


@pytest.fixture
def client(reader: User) -> APIClient:
    client = APIClient()
    client.force_authenticate(reader)
    return client

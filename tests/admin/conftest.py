from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests.permissions import permit


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create_superuser("root")


@pytest.fixture
def client(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


@pytest.fixture
def viewer(db: None) -> Client:
    """Staff who may view everything of ours, and no more."""
    user = User.objects.create_user("viewer", is_staff=True)
    wanted = [
        "view_evententry",
        "view_consumerstate",
        "view_epoch",
        "view_faileddelivery",
        "view_deliverydecision",
        "view_endpoint",
    ]
    permit(user, *wanted)
    client = Client()
    client.force_login(user)
    return client

"""The quickstart, followed from nothing: as a reader does, in a project of its own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.documentation import DOCS, README, blocks, manage_commands
from tests.tutorial import Project

pytestmark = [pytest.mark.no_database, pytest.mark.long]


def _snippet(page: str, containing: str) -> str:
    [block] = [block for block in blocks(DOCS / page, language="python") if containing in block.text]
    return block.text


PULL = """
import base64
from django.contrib.auth.models import User
from django.test import Client
User.objects.create_superuser("admin", password="right")
client = Client(SERVER_NAME="localhost", headers={"Authorization": "Basic " + base64.b64encode(b"admin:right").decode()})
print("PAGE", client.get("/events?offset=0").content.decode())
"""


@pytest.mark.parametrize("page", [README, DOCS / "quickstart.md"], ids=lambda page: page.name)
def test_the_quickstart_leads_to_a_refund(page: Path, tmp_path: Path) -> None:
    project = Project(tmp_path)
    for block in blocks(page, language="python"):
        project.write(block)
    said = []
    for block in blocks(page, language="sh"):
        for command in manage_commands(block):
            if command[0] in ("startapp", "createsuperuser", "runserver"):
                continue
            said.append(project.manage(*command))
            if ".cancel(" in command[-1]:
                # In place of worker and beat.
                assert "Delivered 1 events." in project.manage("eventstore_forward", "--once")
    assert any(text.strip().endswith("cancelled") for text in said)
    assert re.search(r"^orders\.handlers\.refund +running +1 +0", said[-1], re.M)
    project.manage("check", "--database", "default", "--fail-level", "WARNING")

    pulled = json.loads(project.manage("shell", "-c", PULL).split("PAGE ")[1])
    assert {"order_id": 1, "reason": "changed my mind"} == pulled["events"][0]["payload"]
    for block in blocks(page, language="json"):
        shown = json.loads(block.text)
        assert list(shown) == list(pulled)
        assert list(shown["events"][0]) == list(pulled["events"][0])
        assert shown["events"][0]["payload"] == pulled["events"][0]["payload"]

    if page == README:
        assert "Ran 1 test in" in project.manage("test")
    else:
        (project.directory / "orders" / "tests.py").write_text(_snippet("guides/testing.md", "class CancelTests"))
        assert "Ran 2 tests" in project.manage("test")
        assert "1 orders.OrderCancelled" in project.manage("shell", "-c", _snippet("guides/pulling.md", "while True:"))
        assert "moved back from 1" in project.manage("shell", "-c", _snippet("guides/operating.md", "move("))
        assert re.search(r"^orders\.handlers\.refund +running +0 +1", project.manage("eventstore_status"), re.M)

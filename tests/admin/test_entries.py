from __future__ import annotations

import html
import json
import re
import uuid
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.urls import reverse

from django_eventstore import EventEntry, EventStore, record
from django_eventstore.admin import event_ids
from django_eventstore.admin.entries import EventEntryAdmin
from django_eventstore.admin.read_only import LONGEST_TEXT
from django_eventstore.models import EventKey
from django_eventstore.store.event_ids import uuid7
from django_eventstore.store.new_entries import NewEntries
from tests.admin.plans import BIG, poor_plan
from tests.api.statements import captured_statements

pytestmark = pytest.mark.django_db

LIST = "/admin/django_eventstore/evententry/"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
OWN = re.compile(r"eventstore_(entry|position|type|event_key|stream_version)\b")


def change_url(entry: EventEntry) -> str:
    return reverse("admin:django_eventstore_evententry_change", args=[entry.pk])


def recorded(count: int, type_: str = "a.B", **keywords: Any) -> list[EventEntry]:
    return [record(type_, {"n": number}, **keywords)[0] for number in range(count)]


def bulk(count: int, *, type_: str = "a.B", start: datetime, **columns: Any) -> list[EventEntry]:
    """Entries a second apart, each with an id that says so."""
    entries = []
    for number in range(count):
        moment = start + timedelta(seconds=number)
        milliseconds = int(moment.timestamp() * 1000)
        event_id = uuid.UUID(int=milliseconds << 80 | uuid7().int & ((1 << 80) - 1))
        entries.append(EventEntry(event_id=event_id, type=type_, payload="{}", metadata="{}", timestamp=moment))
        for name, value in columns.items():
            setattr(entries[-1], name, value)
    return EventEntry.objects.bulk_create(entries, batch_size=500)


def listed(response: Any) -> list[int]:
    """The ids of the rows, as the links of the page name them."""
    assert 200 == response.status_code
    found = re.findall(r'<th class="field-position"><a href="[^"]*/evententry/(\d+)/change/', response.content.decode())
    return [int(id_) for id_ in found]


def link(response: Any, text: str) -> str | None:
    match = re.search(rf'<a href="([^"]*)"[^>]*>{text}</a>', response.content.decode())
    return html.unescape(match[1]) if match else None


def sequenced() -> None:
    EventStore().get()


class TestList:
    def test_it_shows_what_an_operator_looks_for_newest_first(self, client: Client) -> None:
        (first,) = record("orders.OrderPlaced", {"n": 1}, stream="order-42")
        sequenced()
        (second,) = record("orders.OrderPaid", {"n": 2})

        response = client.get(LIST)

        assert [second.id, first.id] == listed(response)
        text = response.content.decode()
        for expected in (str(first.event_id), "order-42", "orders.OrderPlaced", "orders.OrderPaid"):
            assert expected in text
        (row,) = re.findall(r"<tr>.*?order-42.*?</tr>", text, re.DOTALL)
        assert re.search(r'class="field-position"><a [^>]*>1</a>', row)

    def test_it_is_empty_without_events(self, client: Client) -> None:
        assert [] == listed(client.get(LIST))

    def test_pages_lead_to_every_entry_once_and_back(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EventEntryAdmin, "list_per_page", 3)
        ids = [entry.id for entry in recorded(8)]
        pages, url = [], LIST
        while True:
            response = client.get(url)
            pages.append(listed(response))
            older = link(response, "Older")
            if older is None:
                break
            url = LIST + older

        assert ids[::-1] == [id_ for page in pages for id_ in page]
        assert [3, 3, 2] == [len(page) for page in pages]
        back = [listed(response)]
        while (newer := link(response, "Newer")) is not None:
            response = client.get(LIST + newer)
            back.append(listed(response))
        assert pages[::-1] == back
        assert link(client.get(url), "Newest") == "?"

    def test_rows_that_arrive_meanwhile_move_no_page(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EventEntryAdmin, "list_per_page", 3)
        ids = [entry.id for entry in recorded(6)]
        older = link(client.get(LIST), "Older")

        recorded(5)

        assert ids[:3][::-1] == listed(client.get(f"{LIST}{older}"))

    @pytest.mark.parametrize("cursor", ["before=x", "before=-1", "after=1.5", f"after={10**30}", "before=١", "before="])
    def test_a_wrong_cursor_shows_the_first_page(self, client: Client, cursor: str) -> None:
        (entry,) = recorded(1)

        response = client.get(f"{LIST}?{cursor}", follow=True)

        assert [entry.id] == listed(response)

    @pytest.mark.parametrize("query", ["o=4", "o=-1", "p=7", "all=", "_facets=1", "o=x.y"])
    def test_order_numbered_pages_and_facets_are_not_offered(self, client: Client, query: str) -> None:
        ids = [entry.id for entry in recorded(4)]

        with captured_statements() as statements:
            response = client.get(f"{LIST}?{query}", follow=True)

        assert ids[::-1] == listed(response)
        assert not re.search("(Show|Hide) counts|Show all", response.content.decode())
        assert not [sql for sql in statements if OWN.search(sql) and re.search(r"COUNT\(|OFFSET", sql, re.IGNORECASE)]

    @pytest.mark.parametrize(
        "lookup", ["payload__contains", "payload__regex", "stream", "id__gt", "log_position__slot", "timestamp__year"]
    )
    def test_no_other_lookup_of_the_query_string_is_run(self, client: Client, lookup: str) -> None:
        assert 400 == client.get(f"{LIST}?{lookup}=1").status_code

    def test_the_statements_do_not_grow_with_the_rows_and_leave_the_texts_alone(self, client: Client) -> None:
        recorded(2)
        sequenced()
        with captured_statements() as few:
            client.get(LIST)
        recorded(60)
        sequenced()

        with captured_statements() as many:
            assert 62 == len(listed(client.get(LIST)))

        own = [sql for sql in many if OWN.search(sql)]
        assert len(few) == len(many)
        assert 4 == len(own), own  # the types of the filter, the ids, the entries, their positions
        for sql in own:
            assert not re.search(r"COUNT\(|OFFSET|JOIN|payload|metadata", sql, re.IGNORECASE), sql


class TestFilterOfTypes:
    def test_it_finds_the_type_through_the_log(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EventEntryAdmin, "list_per_page", 2)
        wanted = []
        for _ in range(5):
            recorded(2, "a.B")
            wanted += [entry.id for entry in recorded(1, "c.D")]
        sequenced()

        first = client.get(f"{LIST}?type=c.D")
        second = client.get(LIST + str(link(first, "Older")))
        third = client.get(LIST + str(link(second, "Older")))

        assert wanted[::-1] == listed(first) + listed(second) + listed(third)
        assert listed(second) == listed(client.get(LIST + str(link(third, "Newer"))))
        assert link(third, "Older") is None
        assert [] == listed(client.get(f"{LIST}?type=no.Such"))

    def test_it_begins_with_the_first_page_again(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EventEntryAdmin, "list_per_page", 1)
        recorded(3)
        sequenced()

        response = client.get(LIST + str(link(client.get(LIST), "Older")))

        assert "?type=a.B" == link(response, "a\\.B")

    def test_its_choices_are_bounded(self, client: Client) -> None:
        for number in range(203):
            record(f"a.B{number:03}", {})
        sequenced()

        text = client.get(LIST).content.decode()

        assert "?type=a.B199" in text
        assert "?type=a.B200" not in text
        assert 1 == len(listed(client.get(f"{LIST}?type=a.B202")))


class TestSearch:
    def test_by_stream(self, client: Client) -> None:
        recorded(1, stream="order-1")
        wanted = [entry.id for entry in recorded(2, stream="order-42")]

        assert wanted[::-1] == listed(client.get(LIST, {"q": " order-42 "}))
        assert [] == listed(client.get(LIST, {"q": "order"}))

    def test_by_position_and_by_a_stream_that_is_a_number(self, client: Client) -> None:
        first, *_ = recorded(3)
        sequenced()
        (third,) = recorded(1, stream="1")

        assert [third.id, first.id] == listed(client.get(LIST, {"q": "1"}))
        assert [] == listed(client.get(LIST, {"q": str(2**63)}))

    def test_by_correlation_id(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(EventEntryAdmin, "list_per_page", 2)
        correlation = str(uuid.uuid4())
        start = datetime(2026, 1, 1, tzinfo=timezone.utc)
        bulk(2, start=start)
        bulk(3, start=start, correlation_id=correlation)
        bulk(1, start=start)
        wanted = EventEntry.objects.filter(correlation_id=correlation).order_by("-id").values_list("id", flat=True)

        first = client.get(LIST, {"q": correlation})
        second = client.get(LIST + str(link(first, "Older")))

        assert list(wanted) == listed(first) + listed(second)
        assert listed(first) == listed(client.get(LIST + str(link(second, "Newer"))))

    def test_by_event_id(self, client: Client) -> None:
        entries = recorded(3)

        assert [entries[1].id] == listed(client.get(LIST, {"q": str(entries[1].event_id)}))
        assert [entries[1].id] == listed(client.get(LIST, {"q": entries[1].event_id.hex.upper()}))
        assert [] == listed(client.get(LIST, {"q": str(uuid7())}))

    @pytest.mark.parametrize("event_id", [uuid.uuid4(), uuid.UUID(int=0), uuid.UUID(int=2**128 - 1)])
    def test_by_an_event_id_that_the_caller_supplied(self, client: Client, event_id: uuid.UUID) -> None:
        recorded(2)
        (entry,) = record("a.B", {}, event_id=event_id)
        recorded(2)

        assert [entry.id] == listed(client.get(LIST, {"q": str(event_id)}))

    def test_by_an_event_id_that_the_database_made(self, client: Client) -> None:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO eventstore_entry (type, payload) VALUES ('raw.E', '{}')")
        entry = EventEntry.objects.get()

        assert [entry.id] == listed(client.get(LIST, {"q": str(entry.event_id)}))

    def test_an_event_id_is_found_by_halves_beside_neighbours_that_mislead(
        self, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(event_ids, "MARGIN", 10)
        bulk(800, start=datetime(2026, 1, 1, tzinfo=timezone.utc))
        bulk(2, start=datetime(2001, 1, 1, tzinfo=timezone.utc))
        bulk(800, start=datetime(2026, 1, 1, 1, tzinfo=timezone.utc))
        entries = list(EventEntry.objects.order_by("id"))

        for number in (0, 1, 399, 400, 777, 799, 802, 803, 1_200, 1_601):
            wanted = entries[number]
            with captured_statements() as statements:
                assert [wanted.id] == listed(client.get(LIST, {"q": str(wanted.event_id)}))
            assert len([sql for sql in statements if OWN.search(sql)]) < 25
            assert not [sql for sql in statements if OWN.search(sql) and "OFFSET" in sql]

    def test_together_with_a_type(self, client: Client) -> None:
        recorded(1, "a.B", stream="s")
        (wanted,) = recorded(1, "c.D", stream="s")
        recorded(1, "c.D", stream="t")

        assert [wanted.id] == listed(client.get(LIST, {"q": "s", "type": "c.D"}))

    @pytest.mark.parametrize("query", ["%00", "x" * 5_000, "%ED%A0%80", "'%20OR%201=1", "%25", "9" * 400])
    def test_whatever_is_typed_finds_nothing_and_breaks_nothing(self, client: Client, query: str) -> None:
        recorded(1, stream="s")

        assert client.get(f"{LIST}?q={query}").status_code == 200

    def test_the_box_and_its_help_are_there(self, client: Client) -> None:
        text = client.get(LIST).content.decode()

        assert 'id="searchbar"' in text
        assert "a position" in text

    def test_the_autocomplete_view_stays_closed(self, client: Client) -> None:
        recorded(1)
        query = "app_label=django_eventstore&model_name=logposition&field_name=entry&term=a"

        assert client.get(f"/admin/autocomplete/?{query}").status_code in {403, 404}


def test_every_page_is_read_through_an_index(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventEntryAdmin, "list_per_page", 20)
    monkeypatch.setattr(event_ids, "MARGIN", 100)
    store, correlation = EventStore(), str(uuid.uuid4())
    for start in range(0, 20_000, 2_000):
        rows = list(store.prepare(*[_event(start + number) for number in range(2_000)], stream=f"order-{start}").rows)
        rows += store.prepare("rare.Event", {}, stream="rare").rows
        rows[::100] = [row._replace(correlation_id=correlation if start else "other") for row in rows[::100]]
        store.append(NewEntries(rows))
    sequenced()
    middle = EventEntry.objects.order_by("id")[10_000]
    # An index on a table that autovacuum has found empty is rightly left alone.
    keys = [EventKey(event_id=uuid.uuid4(), entry_id=middle.id) for _ in range(2_000)]
    EventKey.objects.bulk_create(keys)
    _analyze()
    queries = [
        "",
        f"before={middle.id}",
        f"after={middle.id}",
        "type=shop.OrderCancelled",
        "type=rare.Event",
        "type=shop.OrderCancelled&before=9000",
        "type=rare.Event&after=9000",
        "q=order-4000",
        f"q=order-4000&before={middle.id}",
        "q=order-4000&type=rare.Event",
        "q=12345",
        f"q={middle.event_id}",
        f"q={keys[0].event_id}",
        f"q={correlation}",
        f"q={correlation}&before={middle.id}",
        "q=none",
    ]
    urls = [f"{LIST}?{query}" for query in queries] + [change_url(middle)]

    for url in urls:
        with captured_statements() as statements:
            assert 200 == client.get(url).status_code
        own = [sql for sql in statements if OWN.search(sql)]
        assert own
        for sql in own:
            assert not re.search(r"COUNT\(|\bOFFSET\b", sql, re.IGNORECASE), sql
            poor = poor_plan(sql, of_most_rows="OrderCancelled" in url)
            assert poor is None, (url, sql, poor)


def _analyze() -> None:
    """What autovacuum had found before is forgotten, and until the end of the transaction it cannot look again."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"ANALYZE {', '.join((*BIG, 'eventstore_type'))}")


def test_the_check_of_plans_sees_a_poor_plan() -> None:
    for start in range(0, 4_000, 2_000):
        store = EventStore()
        store.append(store.prepare(*[_event(start + number) for number in range(2_000)]))

    assert poor_plan("SELECT id FROM eventstore_entry WHERE metadata LIKE '%a' ORDER BY timestamp LIMIT 20")
    assert poor_plan("SELECT id FROM eventstore_entry ORDER BY timestamp LIMIT 20")
    assert poor_plan("SELECT COUNT(*) FROM eventstore_entry WHERE version = 1")


def _event(number: int) -> Any:
    from tests.shop.events import OrderCancelled

    return OrderCancelled(order_id=number, reason="r")


class TestDetail:
    def test_it_shows_every_field(self, client: Client) -> None:
        (entry,) = record(
            "orders.Placed",
            {"total": "1.10", "lines": [1, 2]},
            stream="order-42",
            expected_version=0,
            metadata={"actor": "ann"},
            subject="customer-7",
        )
        sequenced()

        response = client.get(change_url(entry))

        text = html.unescape(response.content.decode())
        for expected in ("orders.Placed", "order-42", "customer-7", str(entry.event_id), "application/json"):
            assert expected in text
        assert '<pre>{\n  "total": "1.10",\n  "lines": [\n    1,\n    2\n  ]\n}</pre>' in text
        assert '<pre>{\n  "actor": "ann"\n}</pre>' in text
        position = re.search(r"field-position.*?readonly\">(.*?)</div>", text, re.DOTALL)
        assert position is not None
        assert "1" == position[1]

    def test_numbers_and_keys_are_shown_as_they_are_stored(self, client: Client) -> None:
        entry = EventEntry.objects.create(type="a.B", payload='{"z":1.10,"a":1E400,"z":2}', metadata="{}")

        text = html.unescape(client.get(change_url(entry)).content.decode())

        assert '<pre>{\n  "z": 1.10,\n  "a": 1E400,\n  "z": 2\n}</pre>' in text

    def test_a_deep_payload_is_shown(self, client: Client) -> None:
        depth = 30 if connection.vendor == "mysql" else 900  # as deep as the database's check of JSON goes, or nearly
        entry = EventEntry.objects.create(type="a.B", payload="[" * depth + "]" * depth, metadata="{}")

        response = client.get(change_url(entry))

        assert 200 == response.status_code
        assert len(response.content) < LONGEST_TEXT + 50_000

    def test_a_large_payload_is_cut(self, client: Client) -> None:
        entry = EventEntry.objects.create(type="a.B", payload=json.dumps("<b>" * 300_000), metadata="{}")

        response = client.get(change_url(entry))

        assert len(response.content) < 10 * LONGEST_TEXT
        assert "900002 characters in all" in response.content.decode()

    def test_it_leads_along_the_stream(self, client: Client) -> None:
        first, second, third = recorded(3, stream="a&b ü")
        recorded(1, stream="other")

        pages = [client.get(change_url(entry)) for entry in (first, second, third)]

        assert [None, change_url(first), change_url(second)] == [link(page, "Previous of the stream") for page in pages]
        assert [change_url(second), change_url(third), None] == [link(page, "Next of the stream") for page in pages]
        of_stream = client.get(str(link(pages[0], "All of the stream")))
        assert [third.id, second.id, first.id] == listed(of_stream)

    def test_an_entry_of_no_stream_has_no_neighbours(self, client: Client) -> None:
        entry, _ = recorded(2)

        page = client.get(change_url(entry))

        assert (None, None) == (link(page, "Next of the stream"), link(page, "All of the stream"))

    def test_it_takes_few_statements(self, client: Client) -> None:
        _, entry, _ = recorded(3, stream="s")

        with captured_statements() as statements:
            client.get(change_url(entry))

        assert 4 == len([sql for sql in statements if OWN.search(sql)])

    @pytest.mark.parametrize("id_", ["0", "999999999", "x", str(10**30)])
    def test_an_unknown_entry_leads_back(self, client: Client, id_: str) -> None:
        assert 302 == client.get(f"{LIST}{id_}/change/").status_code


class TestEscaping:
    def test_nothing_recorded_becomes_markup(self, client: Client) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO eventstore_entry (type, payload, metadata, stream, content_type, correlation_id, "
                "causation_id, subject) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
                [HOSTILE, *[json.dumps({HOSTILE: HOSTILE})] * 2, *[HOSTILE] * 5],
            )
        sequenced()
        entry = EventEntry.objects.get()

        for url in (LIST, f"{LIST}?type=x", change_url(entry), f"{LIST}?q=%3Cscript%3Ealert(1)"):
            text = client.get(url).content.decode()
            assert "alert(1)" in text
            assert "<script>alert" not in text
            assert "<img src=x" not in text

    @pytest.mark.parametrize("page", ["list", "detail"])
    def test_pages_hold_no_inline_script_or_style(self, client: Client, page: str) -> None:
        (entry,) = recorded(1)

        text = client.get(LIST if page == "list" else change_url(entry)).content.decode()

        assert not re.search(r"<script(?![^>]*\bsrc=)", text)
        assert not re.search(r"<style|\sstyle=|\son\w+=", text)


class TestReadOnly:
    def test_nobody_may_add_change_or_delete(self, client: Client) -> None:
        (entry,) = recorded(1)

        text = client.get(change_url(entry)).content.decode()

        for forbidden in ("_save", "deletelink", 'type="checkbox"'):
            assert forbidden not in text
        assert "addlink" not in client.get(LIST).content.decode().split("content-main")[1]
        assert 403 == client.get(f"{LIST}add/").status_code
        assert 403 == client.get(f"{LIST}{entry.pk}/delete/").status_code

    def test_forged_posts_are_refused_and_change_nothing(self, client: Client) -> None:
        (entry,) = recorded(1, stream="s")
        before = list(EventEntry.objects.values())
        row = {"type": "x.Y", "payload": "{}", "metadata": "{}", "stream": "forged", "version": "7"}
        forged: list[tuple[str, dict[str, Any]]] = [
            (f"{LIST}add/", row),
            (change_url(entry), {**row, "_save": "Save"}),
            (change_url(entry), {**row, "_saveasnew": "1"}),
            (f"{LIST}{entry.pk}/delete/", {"post": "yes"}),
            (LIST, {"action": "delete_selected", "_selected_action": [entry.pk], "post": "yes"}),
            (
                LIST,
                {
                    "form-TOTAL_FORMS": "1",
                    "form-INITIAL_FORMS": "0",
                    "form-0-id": str(entry.pk),
                    "form-0-stream": "forged",
                    "_save": "Save",
                },
            ),
        ]

        assert [403] * len(forged) == [client.post(url, data).status_code for url, data in forged]
        assert before == list(EventEntry.objects.values())
        assert not LogEntry.objects.exists()

    def test_staff_without_the_permission_see_nothing(self, viewer: Client, django_user_model: Any) -> None:
        (entry,) = recorded(1)
        stranger = Client()
        stranger.force_login(django_user_model.objects.create_user("stranger", is_staff=True))

        assert [200, 200] == [viewer.get(url).status_code for url in (LIST, change_url(entry))]
        assert [403, 403] == [stranger.get(url).status_code for url in (LIST, change_url(entry))]
        assert [302, 302] == [Client().get(url).status_code for url in (LIST, change_url(entry))]


def test_epochs_are_listed_and_not_changed(client: Client) -> None:
    sequenced()
    url = "/admin/django_eventstore/epoch/"

    text = client.get(url).content.decode()

    assert "created" in text
    assert str(EventStore().get().log) in text
    assert 200 == client.get(f"{url}1/change/").status_code
    assert [403, 403, 403] == [
        client.post(f"{url}{path}", {"number": "1", "reason": "forged"}).status_code
        for path in ("add/", "1/change/", "1/delete/")
    ]
    assert 403 == client.post(url, {"action": "delete_selected"}).status_code
    assert 400 == client.get(f"{url}?reason__contains=c").status_code

"""What of the RabbitMQ sender needs no broker: options, and the bookkeeping of confirms. See tests/services for the rest."""

from __future__ import annotations

import ssl
from datetime import timedelta

import celery
import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from django_eventstore import Outcome
from django_eventstore.senders.base import Receipts
from django_eventstore.senders.lanes import Lanes
from django_eventstore.senders.rabbitmq import RabbitMQSender
from django_eventstore.senders.rabbitmq import sender as sender_module
from django_eventstore.senders.rabbitmq.confirms import Confirms
from django_eventstore.senders.rabbitmq.link import _with_host_name
from django_eventstore.testing.contracts import SenderContract

pytestmark = pytest.mark.no_database

ENTRIES = SenderContract().entries(12)


def published(first_tag: int = 1) -> tuple[Confirms, Receipts]:
    receipts = Receipts(ENTRIES)
    confirms = Confirms(receipts, Lanes(ENTRIES))
    for number, entry in enumerate(ENTRIES):
        confirms.published(first_tag + number, number, entry)
    return confirms, receipts


def accepted(receipts: Receipts) -> list[int]:
    return [number for number in range(len(ENTRIES)) if receipts.is_answered(number)]


def test_an_ack_answers_its_own_tag_and_with_multiple_all_up_to_it():
    confirms, receipts = published()
    confirms.ack(3, False)
    assert [2] == accepted(receipts)
    confirms.ack(5, True)
    assert [0, 1, 2, 3, 4] == accepted(receipts)
    assert 7 == confirms.in_flight


def test_tag_zero_with_multiple_answers_all():
    confirms, receipts = published()
    confirms.ack(4, False)
    confirms.ack(0, True)
    assert (list(range(12)), 0) == (accepted(receipts), confirms.in_flight)


def test_answers_to_what_was_published_before_change_nothing():
    confirms, receipts = published(first_tag=100)
    confirms.ack(99, True)
    confirms.ack(42, False)
    confirms.nack(99, True)
    assert ([], [], 12) == (accepted(receipts), confirms.nacked, confirms.in_flight)
    confirms.ack(100, True)
    assert [0] == accepted(receipts)


def test_a_nack_claims_nothing_and_is_remembered():
    confirms, receipts = published()
    confirms.ack(2, True)
    confirms.nack(5, True)
    confirms.ack(12, True)
    assert [2, 3, 4] == confirms.nacked
    assert Outcome(done=2) == receipts.outcome()
    confirms.ack(4, False)
    assert Outcome(done=2) == receipts.outcome()


def test_a_returned_message_is_refused_although_it_is_acked_as_well():
    confirms, receipts = published()
    confirms.returned(str(ENTRIES[3].event_id), "no queue")
    confirms.ack(12, True)
    outcome = receipts.outcome()
    assert (12, {4}) == (outcome.done, set(outcome.refused))
    assert "no queue" == str(outcome.refused[4])


def test_the_return_of_a_message_of_an_earlier_batch_changes_nothing():
    confirms, receipts = published()
    confirms.returned("0198c0de-0000-7000-8000-000000000009", "no queue")
    assert [] == accepted(receipts)


def test_the_only_one_that_is_open_is_known():
    confirms, _ = published()
    assert confirms.only_open is None
    confirms.ack(6, True)
    confirms.ack(12, False)
    for tag in (8, 9, 10, 11):
        confirms.ack(tag, False)
    assert 6 == confirms.only_open
    confirms.nack(7, False)
    assert confirms.only_open is None


ANSWER = st.tuples(st.sampled_from(["ack", "nack"]), st.integers(0, 14), st.booleans())


@given(st.lists(ANSWER, max_size=30))
def test_the_first_answer_to_each_tag_is_the_one_that_counts(answers):
    confirms, receipts = published()
    verdicts: dict[int, str] = {}
    for verdict, tag, multiple in answers:
        getattr(confirms, verdict)(tag, multiple)
        upto = range(1, (tag or 12) + 1) if multiple else (tag,)
        for each in upto:
            if 1 <= each <= 12:
                verdicts.setdefault(each, verdict)
    assert [tag - 1 for tag in sorted(verdicts) if verdicts[tag] == "ack"] == accepted(receipts)
    assert sorted(tag - 1 for tag in verdicts if verdicts[tag] == "nack") == sorted(confirms.nacked)
    assert 12 - len(verdicts) == confirms.in_flight


@pytest.mark.parametrize(
    "options, named",
    [
        ({"routing_key": "{payload}"}, "routing_key"),
        ({"exchange": "{0}"}, "exchange"),
        ({"nacked": "drop"}, "nacked"),
        ({"format": "xml"}, "format"),
        ({"source": "a b"}, "source"),
        ({"dataschema": "nonsense"}, "dataschema"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 30}, "timeout"),
        ({"connect_timeout": timedelta(seconds=-1)}, "connect_timeout"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        RabbitMQSender(**{"exchange": "orders", **options})


def test_the_exchange_must_be_said():
    with pytest.raises(TypeError, match="exchange"):
        RabbitMQSender()


def errors(sender: RabbitMQSender) -> list[tuple[str, str]]:
    return [(message.id, message.msg) for message in sender.check()]


@pytest.mark.parametrize(
    "url", ["amqp://127.0.0.1:1", "amqps://127.0.0.1:1", "pyamqp://127.0.0.1:1", "amqp://a;amqp://b"]
)
def test_an_amqp_url_is_right_and_nothing_is_connected_to(url):
    assert [] == errors(RabbitMQSender(exchange="orders", url=url))


def test_a_url_of_another_kind_is_reported_without_its_password():
    [(id_, message)] = errors(RabbitMQSender(exchange="orders", url="redis://:s3cret@127.0.0.1/0"))
    assert "django_eventstore.E060" == id_
    assert "the url is not AMQP" in message
    assert "s3cret" not in message


def test_without_a_url_a_broker_of_celery_that_is_not_amqp_is_reported(monkeypatch):
    monkeypatch.setattr(
        sender_module, "current_app", celery.Celery("shop", broker="redis://127.0.0.1", set_as_current=False)
    )
    [(id_, message)] = errors(RabbitMQSender(exchange="orders"))
    assert ("django_eventstore.E060", True) == (id_, "Celery's broker is not AMQP" in message)


class NoApp:
    main = "default"


@pytest.mark.parametrize(
    "url, reported",
    [("amqp://127.0.0.1:1", []), ("memory://", ["django_eventstore.E060"]), (None, ["django_eventstore.E060"])],
)
def test_without_a_celery_app_its_setting_is_looked_at(monkeypatch, url, reported):
    monkeypatch.setattr(sender_module, "current_app", NoApp)
    with override_settings(CELERY_BROKER_URL=url):
        assert reported == [id_ for id_, _ in errors(RabbitMQSender(exchange="orders"))]


def test_the_name_in_a_certificate_is_looked_at_unless_that_is_turned_off():
    assert {"server_hostname": "mq.example"} == _with_host_name(True, "mq.example")
    assert {"ca_certs": "ca.pem", "server_hostname": "mq.example"} == _with_host_name(
        {"ca_certs": "ca.pem"}, "mq.example"
    )
    assert {"server_hostname": "other"} == _with_host_name({"server_hostname": "other"}, "mq.example")
    assert {"cert_reqs": ssl.CERT_NONE} == _with_host_name({"cert_reqs": ssl.CERT_NONE}, "mq.example")


def test_the_senders_room_is_imported_without_a_broker_library():
    import subprocess
    import sys

    program = (
        "import sys\nfrom django.conf import settings\nsettings.configure()\nimport django_eventstore.senders\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('kombu', 'amqp')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "[]\n" == done.stdout

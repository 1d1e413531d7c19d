"""What of the Kafka sender needs no broker: options and verdicts. See tests/services for the rest."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta

import pytest

pytest.importorskip("confluent_kafka")
from confluent_kafka import KafkaError, KafkaException

from django_eventstore.exceptions import LeaseLost, Unavailable
from django_eventstore.senders.kafka import KafkaSender
from django_eventstore.senders.kafka.options import is_topic_name, reason_of
from django_eventstore.senders.kafka.verdicts import Verdict, verdict_of
from django_eventstore.testing.contracts import SenderContract

pytestmark = pytest.mark.no_database


def sender(**options: object) -> KafkaSender:
    return KafkaSender(**{"topic": "orders", "url": "127.0.0.1:1", **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options, named",
    [
        ({"topic": "{stream}"}, "topic"),
        ({"topic": "{payload}"}, "topic"),
        ({"topic": "no topic"}, "topic"),
        ({"topic": ""}, "topic"),
        ({"topic": "x" * 250}, "topic"),
        ({"format": "xml"}, "format"),
        ({"source": "a b"}, "source"),
        ({"dataschema": "nonsense"}, "dataschema"),
        ({"max_in_flight": 0}, "max_in_flight"),
        ({"max_bytes": 999}, "max_bytes"),
        ({"timeout": timedelta(0)}, "timeout"),
        ({"timeout": 30}, "timeout"),
        ({"connect_timeout": timedelta(seconds=-1)}, "connect_timeout"),
        ({"transactional_id": "shop"}, "partition"),
        ({"transactional_id": "{stream}-{partition}"}, "transactional_id"),
        ({"config": ["acks"]}, "config"),
        ({"config": {1: 2}}, "config"),
        ({"headers": {"": "a"}}, "headers"),
        ({"headers": {"a": 1}}, "headers"),
    ],
)
def test_a_wrong_option_is_named(options, named):
    with pytest.raises(ValueError, match=named):
        sender(**options)


@pytest.mark.parametrize("missing", ["topic", "url"])
def test_topic_and_url_must_be_said(missing):
    with pytest.raises(TypeError, match=missing):
        KafkaSender(**{name: "orders" for name in ("topic", "url") if name != missing})


@pytest.mark.parametrize(
    "name, instead",
    [
        ("bootstrap.servers", "url"),
        ("acks", "guarantees"),
        ("enable.idempotence", "guarantees"),
        ("partitioner", "guarantees"),
        ("delivery.timeout.ms", "timeout"),
        ("transactional.id", "transactional_id"),
        ("message.max.bytes", "max_bytes"),
        ("error_cb", "listens"),
    ],
)
def test_what_the_guarantees_rest_on_is_not_to_be_configured(name, instead):
    with pytest.raises(ValueError, match=f"config cannot have '{name}': .*{instead}"):
        sender(config={name: "x"})


def errors(sender: KafkaSender) -> list[tuple[str | None, str]]:
    return [(message.id, message.msg) for message in sender.check()]


@pytest.mark.parametrize(
    "url", ["127.0.0.1:1", "kafka-1.example:9092, kafka-2.example:9092", "SSL://kafka.example:9093", "kafka"]
)
def test_addresses_are_right_and_nothing_is_connected_to(url):
    assert [] == errors(sender(url=url))


@pytest.mark.parametrize("url", ["", "a,,b", "kafka://shop:s3cret@kafka.example:9092", "kafka:9092/topic", None, 9092])
def test_what_are_no_addresses_is_reported_and_not_repeated(url):
    [(id_, message)] = errors(sender(url=url))
    assert ("django_eventstore.E062", True) == (id_, "host:port" in message)
    assert "s3cret" not in message


@pytest.mark.parametrize(
    "config, named",
    [
        ({"no.such.option": 1}, "no.such.option"),
        ({"socket.timeout.ms": "soon"}, "socket.timeout.ms"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere/ca.pem"}, "ssl.ca.location"),
    ],
)
def test_what_librdkafka_does_not_take_is_reported(config, named):
    [(id_, message)] = errors(sender(config={**config, "sasl.password": "s3cret"}))
    assert ("django_eventstore.E063", True) == (id_, named in message)
    assert "s3cret" not in message


def test_a_password_is_in_no_repr():
    assert "s3cret" not in repr(sender(config={"sasl.password": "s3cret"}).options)


def test_without_a_right_address_nothing_is_sent():
    contract = SenderContract()
    with pytest.raises(Unavailable, match="host:port"):
        sender(url="").send(contract.batch(contract.entries(1)))


def test_a_lost_lease_is_not_taken_for_a_broker_that_is_gone():
    contract, asked = SenderContract(), []

    def lost() -> bool:
        asked.append(1)
        if len(asked) > 1:
            raise LeaseLost(consumer="contract", token=1)
        return True

    with pytest.raises(LeaseLost):
        sender().send(contract.batch(contract.entries(1), still_held=lost))


def test_options_of_librdkafka_go_to_it_and_ours_stay_as_they_are():
    made = sender(config={"linger.ms": 50, "client.id": "shop"}, max_in_flight=7).options
    config = made.producer_config(one_by_one=False)
    assert (50, "shop", "all", True, 7) == tuple(
        config[name]
        for name in ("linger.ms", "client.id", "acks", "enable.idempotence", "queue.buffering.max.messages")
    )


@pytest.mark.parametrize(
    "name, expected",
    [("orders", True), ("a.B-c_9", True), ("", False), (".", False), ("..", False), ("a/b", False), ("é", False)],
)
def test_names_of_topics_are_told_from_others(name, expected):
    assert expected is is_topic_name(name)


@pytest.mark.parametrize(
    "code, verdict",
    [
        (KafkaError.MSG_SIZE_TOO_LARGE, Verdict.MESSAGE),
        (KafkaError.INVALID_RECORD, Verdict.MESSAGE),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Verdict.TOPIC),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Verdict.TOPIC),
        (KafkaError.PRODUCER_FENCED, Verdict.FENCE),
        (KafkaError._PURGE_INFLIGHT, Verdict.STOPPED),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, Verdict.BROKER),
    ],
)
def test_whose_fault_an_error_is(code, verdict):
    assert verdict is verdict_of(KafkaError(code))


def test_an_error_that_hides_another_one_gives_the_reason_of_that():
    hidden = SystemError("returned a result with an exception set")
    hidden.__cause__ = KafkaException(KafkaError(KafkaError._FATAL, "the sequence is broken"))
    assert "the sequence is broken (_FATAL)" == reason_of(hidden)
    assert "OSError: gone" == reason_of(OSError("gone"))


def test_without_the_package_the_import_says_what_to_install():
    program = (
        "import sys\nsys.modules['confluent_kafka'] = None\n"
        "from django.conf import settings\nsettings.configure()\nimport django_eventstore.senders.kafka\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert 1 == done.returncode
    assert (
        "ImportError: KafkaSender needs the package confluent-kafka: pip install 'django-eventstore[kafka]'"
        in done.stderr
    )


def test_a_consumer_with_a_sender_that_cannot_be_imported_says_so_in_a_check():
    program = (
        "import sys\nsys.modules['confluent_kafka'] = None\n"
        "import django\nfrom django.conf import settings\n"
        "sender = 'django_eventstore.senders.kafka.KafkaSender'\n"
        "consumers = {'warehouse': {'SENDER': sender, 'OPTIONS': {'topic': 'orders', 'url': 'kafka:9092'}}}\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'django_eventstore'],\n"
        "    EVENTSTORE={'CONSUMERS': consumers})\n"
        "django.setup()\nfrom django.core.checks import run_checks\n"
        "print([message.msg for message in run_checks() if message.id == 'django_eventstore.E003'])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert "django-eventstore[kafka]" in done.stdout, done.stderr


def test_the_senders_room_is_imported_without_the_package():
    program = (
        "import sys\nfrom django.conf import settings\nsettings.configure()\nimport django_eventstore.senders\n"
        "print('confluent_kafka' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "False\n" == done.stdout

"""What of the Redis sender needs no server: options. See tests/services for the rest."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from datetime import timedelta

import pytest

from django_eventstore.senders.redis import RedisStreamSender
from django_eventstore.senders.redis.address import Address
from django_eventstore.senders.redis.link import Addition, Link

pytestmark = pytest.mark.no_database

REQUIRED = {"key": "orders", "url": "redis://127.0.0.1:1"}
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    "options, named",
    [
        ({"key": ""}, "key"),
        ({"key": "{payload}"}, "key"),
        ({"url": "http://127.0.0.1"}, "url"),
        ({"url": "127.0.0.1:6379"}, "url"),
        ({"url": "redis://"}, "url"),
        ({"url": "redis://a:port"}, "url"),
        ({"url": "unix://"}, "url"),
        ({"url": None}, "url"),
        ({"url": "redis://a;redis://b"}, "url"),
        ({"url": "unix:///a", "cluster": True}, "url"),
        ({"url": "redis://a;http://b", "cluster": True}, "url"),
        ({"url": "rediss://a;redis://b", "cluster": True}, "url"),
        ({"url": "rediss://a", "tls": {"cafile": "ca.pem"}}, "tls"),
        ({"tls": {"ca_certs": "ca.pem"}}, "tls"),
        ({"maxlen": 0}, "maxlen"),
        ({"replicas": -1}, "replicas"),
        ({"headers": {"": "a"}}, "headers"),
        ({"headers": {"a": 1}}, "headers"),
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
        RedisStreamSender(**{**REQUIRED, **options})


@pytest.mark.parametrize("missing", ["key", "url"])
def test_key_and_url_must_be_said(missing):
    with pytest.raises(TypeError, match=missing):
        RedisStreamSender(**{name: value for name, value in REQUIRED.items() if name != missing})


def test_a_wrong_url_is_reported_without_its_password():
    with pytest.raises(ValueError) as caught:
        RedisStreamSender(key="orders", url="http://user:s3cret@127.0.0.1")
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in repr(RedisStreamSender(key="orders", url="redis://:s3cret@127.0.0.1").address)


@pytest.mark.parametrize(
    "options",
    [
        {"url": "redis://user:password@127.0.0.1:1/2"},
        {"url": "unix:///nowhere/redis.sock"},
        {"url": "rediss://127.0.0.1:1", "tls": {"ca_certs": "ca.pem"}},
        {"url": "redis://127.0.0.1:1;redis://127.0.0.1:2", "cluster": True},
    ],
)
def test_a_right_sender_is_right_and_connects_to_nothing(options):
    assert [] == RedisStreamSender(**{**REQUIRED, **options}).check()


def address(**options: object) -> Address:
    defaults = {"url": "rediss://a", "cluster": False, "tls": {}, "connect": SECOND, "silence": 2 * SECOND}
    return Address(**{**defaults, **options})


def test_certificate_and_name_are_looked_at_unless_that_is_turned_off():
    options = address(tls={"ca_certs": "ca.pem", "certfile": "a.pem", "keyfile": "a.key"}).options()
    assert {
        "socket_timeout": 2.0,
        "socket_connect_timeout": 1.0,
        "protocol": 2,
        "ssl_cert_reqs": "required",
        "ssl_check_hostname": True,
        "ssl_ca_certs": "ca.pem",
        "ssl_certfile": "a.pem",
        "ssl_keyfile": "a.key",
    } == options
    options = address(tls={"cert_reqs": ssl.CERT_NONE}).options()
    assert ("none", False) == (options["ssl_cert_reqs"], options["ssl_check_hostname"])


class Deaf:
    """A connection that answers what it is told to."""

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers

    def pack_commands(self, commands: list[tuple[object, ...]]) -> list[bytes]:
        assert len(commands) == len(self.answers)
        return []

    def send_packed_command(self, commands: list[bytes]) -> None:
        pass

    def read_response(self) -> object:
        return self.answers.pop(0)


@pytest.mark.parametrize("done", [None, [b"1-0"], [b"1-0", b"2-0", b"3-0"], b"OK"])
def test_a_transaction_that_answers_something_else_claims_nothing(done):
    from django_eventstore.exceptions import Unavailable

    link = Link(address(url="redis://127.0.0.1:1"), trim=(), replicas=0)
    link._connections[None] = Deaf([b"OK", b"QUEUED", b"QUEUED", done])
    accepted: list[int] = []
    with pytest.raises(Unavailable, match="EXEC"):
        link.append([Addition(0, "orders", ()), Addition(1, "orders", ())], accepted.append)
    assert [] == accepted


def run(program: str) -> str:
    program = "import sys\nfrom django.conf import settings\nsettings.configure()\n" + program
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    ).stdout.strip()


def test_the_senders_room_is_imported_without_the_library():
    assert "[]" == run(
        "import django_eventstore.senders\nprint([name for name in sys.modules if name.split('.')[0] == 'redis'])"
    )


def test_without_the_library_it_is_said_what_to_install():
    said = run(
        "sys.modules['redis'] = None\n"
        "try:\n    import django_eventstore.senders.redis\n"
        "except ImportError as error:\n    import json; print(json.dumps(str(error)))"
    )
    assert "pip install 'django-eventstore[redis]'" in json.loads(said)

from functools import partial

import pytest
from django.dispatch import Signal

from django_eventstore.signals import send

pytestmark = pytest.mark.no_database


class Failed(Exception):
    pass


def failing_receiver(**kwargs):
    raise Failed("why")


PARTIAL = partial(failing_receiver, more=1)  # has no __qualname__, which Django looks for when it fails


@pytest.mark.parametrize("receiver", [failing_receiver, PARTIAL])
def test_a_receiver_that_raises_does_not_reach_the_caller_and_is_logged(receiver, caplog):
    signal = Signal()
    signal.connect(receiver)
    send(signal, sender=object, using="default")
    assert "why" in caplog.text


@pytest.mark.parametrize(
    "receiver",
    [
        failing_receiver,
        pytest.param(PARTIAL, marks=pytest.mark.xfail(reason="Django gives up at a failing receiver without a name")),
    ],
)
def test_a_receiver_that_raises_stops_no_other(receiver):
    signal, got = Signal(), []

    def later(*, using, **kwargs):
        got.append(using)

    signal.connect(receiver)
    signal.connect(later)
    send(signal, sender=object, using="default")
    assert ["default"] == got

from functools import partial

import pytest
from django.dispatch import Signal

from django_eventstore.signals import send

pytestmark = pytest.mark.no_database


class Failed(Exception):
    pass


def fail(reason, **kwargs):
    raise Failed(reason)


@pytest.mark.parametrize(
    "receiver",
    [
        lambda **kwargs: fail("why"),
        pytest.param(
            partial(fail, "why"),
            marks=pytest.mark.xfail(
                raises=AttributeError, reason="Django's send_robust logs receiver.__qualname__, which a partial lacks"
            ),
        ),
    ],
)
def test_a_receiver_that_raises_stops_nobody_and_is_logged(receiver, caplog):
    signal, got = Signal(), []
    signal.connect(receiver, weak=False)
    later = lambda **kwargs: got.append(kwargs["using"])  # noqa: E731
    signal.connect(later)
    send(signal, sender=object, using="default")
    assert ["default"] == got
    assert "why" in caplog.text

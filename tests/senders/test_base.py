import pytest

from django_eventstore import EventSender, Outcome


def test_a_sender_without_send_cannot_be_made():
    class Silent(EventSender):
        pass

    with pytest.raises(TypeError, match="send"):
        Silent()


def test_a_sender_needs_nothing_else():
    class Minimal(EventSender):
        def send(self, batch):
            return Outcome(done=0)

    assert [] == Minimal().check()
    assert Minimal().close() is None

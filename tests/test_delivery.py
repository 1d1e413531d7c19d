"""What the loop and the senders say to each other."""

import dataclasses

import pytest

from django_eventstore import Outcome

pytestmark = pytest.mark.no_database


def test_nothing_is_refused_unless_it_is_named():
    assert {} == Outcome(done=3).refused


def test_less_than_nothing_cannot_be_done():
    with pytest.raises(ValueError, match="-1"):
        Outcome(done=-1)


def test_an_outcome_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outcome(done=1).done = 2

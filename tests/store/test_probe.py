import pytest
from django_eventstore import EventStore
from .log import *

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("i", range(3))
def test_a(second, i):
    save(1, 2)
    save(3, using=second)
    assert log_numbers() == [1, 2, 3]

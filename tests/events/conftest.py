import pytest

from tests.declarations import declarations

__all__ = ["declarations"]


@pytest.fixture(autouse=True)
def _registry_restored(declarations):
    """Some of these events are declared wrong on purpose."""

import pytest

from tests.delivery import clean_process
from tests.servers.certificates import Certificates

__all__ = ["clean_process"]


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))

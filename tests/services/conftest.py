from tests.delivery import clean_process

__all__ = ["clean_process"]

from tests.delivery import clean_process, elsewhere

__all__ = ["clean_process", "elsewhere"]

from tests.delivery import clean_process, elsewhere
from tests.recording.capturing import no_captures

__all__ = ["clean_process", "elsewhere", "no_captures"]

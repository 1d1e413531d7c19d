"""Time, CPU and peak memory of a block of code in this process."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from tests.benchmarks.definition import Measurement

if TYPE_CHECKING:
    from typing_extensions import Self

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Stopwatch:
    """``with Stopwatch() as watch: …``, then ``watch.measurement(count)``."""

    def __enter__(self) -> Self:
        self._memory_before = _forget_peak()
        self._cpu = time.process_time()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.seconds = time.perf_counter() - self._began
        self.cpu_seconds = time.process_time() - self._cpu
        self.peak_bytes = max(0, _peak() - self._memory_before)

    def measurement(self, count: int) -> Measurement:
        return Measurement(count=count, seconds=self.seconds, cpu_seconds=self.cpu_seconds, peak_bytes=self.peak_bytes)


def _forget_peak() -> int:
    """Begin a new peak where the system can; the resident bytes now, or else the peak so far."""
    if not _STATUS.exists():
        return _peak()
    # What imports needed for a moment is not what the block needs.
    _CLEAR_REFS.write_text("5")
    return _status("VmRSS")


def _peak() -> int:
    """On Linux not ru_maxrss: it survives exec, so that a child begins with the peak of the process that started it."""
    if _STATUS.exists():
        return _status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.removesuffix("kB")) * 1024
    raise LookupError(f"{_STATUS} has no {field}")

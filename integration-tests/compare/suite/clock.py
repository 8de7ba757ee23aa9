"""Process CPU time, measured as `src/clock.rs` measures it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

CLOCK = "CLOCK_PROCESS_CPUTIME_ID"
MAX_CALLS = 10_000


def measure(call: Callable[[], object], samples: int, sample_ms: float) -> dict[str, object]:
    """After two calls to warm up, `samples` samples of as many calls as take `sample_ms`."""
    call()
    start = time.process_time_ns()
    call()
    once = max(time.process_time_ns() - start, 1)
    calls = min(max(math.ceil(sample_ms * 1e6 / once), 1), MAX_CALLS)
    times = []
    for _ in range(samples):
        start = time.process_time_ns()
        for _ in range(calls):
            call()
        times.append((time.process_time_ns() - start) / calls)
    return {"times_ns": times, "calls": calls}


class Stopwatch:
    """Seconds of CPU time of the body of a `with` statement."""

    seconds: float = 0.0

    def __enter__(self) -> Stopwatch:
        self._start = time.process_time_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = (time.process_time_ns() - self._start) / 1e9

"""A library as a process: ours or a Python server, with the same requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

SUITE = Path(__file__).resolve().parent.parent
SINGLE_THREAD = {"OMP_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1"}


class LibraryError(RuntimeError):
    """A library refused a request or ended."""


class Library:
    """Talks to one process. Close it, or use it in a `with` statement."""

    def __init__(self, key: str, command: list[str], threads: int = 1) -> None:
        limits = {name: str(threads) for name in SINGLE_THREAD}
        self.key = key
        self._process = subprocess.Popen(
            command,
            cwd=SUITE,
            env=os.environ | limits,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.about = self.request("hello")

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def request(self, op: str, **fields: Any) -> Any:
        """Sends one request and waits for its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"op": op} | fields) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise LibraryError(f"{self.key} ended during {op}")
        answer = json.loads(line)
        if "error" in answer:
            raise LibraryError(f"{self.key}, {op}: {answer['error']}")
        return answer["ok"]

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def commands() -> dict[str, list[str]]:
    """How to start each library that is there, by its key; `run` sets the variables."""
    found = {
        "galen": [os.environ["GALEN_COMPARE_BINARY"]],
        "tenseal": [sys.executable, "-m", "suite.seal"],
    }
    if python := os.environ.get("GALEN_COMPARE_OPENFHE_PYTHON"):
        found["openfhe"] = [python, "-m", "suite.openfhe_library"]
    return found


def start(key: str, threads: int = 1) -> Library:
    """Starts a library by its key."""
    return Library(key, commands()[key], threads)


def pin_to_one_core() -> int:
    """Pins this process, and all that it starts, to the last core it may use. The core's number."""
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core

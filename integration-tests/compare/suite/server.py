"""Serves a Python library over the protocol of `src/protocol.rs`: one JSON object per line in, one per line out."""

from __future__ import annotations

import json
import os
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any

from suite.clock import CLOCK, measure

Program = list[dict[str, Any]]


class Server:
    """What the requests need of a library. `operations` maps the names of the protocol to calls that repeat the work."""

    operations: dict[str, Callable[[], object]]

    def hello(self) -> dict[str, Any]:
        """Library and version."""
        raise NotImplementedError

    def open(self, parameters: dict[str, Any], operands: list[list[float]]) -> dict[str, Any]:
        """Makes context, keys and operands."""
        raise NotImplementedError

    def time(self, operation: str, samples: int, sample_ms: float) -> dict[str, object]:
        """Measures one operation."""
        return measure(self.operations[operation], samples, sample_ms)

    def sizes(self) -> dict[str, int]:
        """Bytes of what is sent or stored."""
        raise NotImplementedError

    def evaluate(self, inputs: dict[str, list[float]], program: Program, outputs: list[str]) -> dict[str, Any]:
        """Encrypts, runs a program, decrypts."""
        raise NotImplementedError


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(server: Server) -> None:
    """Answers requests until the input ends. What libraries print goes nowhere: stdout is for answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    for line in sys.stdin:
        try:
            request = json.loads(line)
            operation = request.pop("op")
            if operation.startswith("_") or not hasattr(server, operation):
                raise ValueError(f"unknown request {operation}")
            answer = {"ok": getattr(server, operation)(**request)}
            if operation == "hello":
                answer["ok"] |= {"clock": CLOCK, "python": sys.version.split()[0]}
        except Exception as error:  # whatever it is, the other side has to hear of it
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

"""Single operations, side by side: every library in turn, again and again, so that a slow minute of the machine hits all."""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any

import numpy

from suite.library import Library
from suite.parameters import PARAMETER_SETS, ParameterSet
from suite.programs import evaluate, programs

SEED = 20_260_102
ROUNDS = 7
# In every round: samples of at least so many milliseconds each.
SAMPLES = 3
SAMPLE_MS = 2.0
# Long and of little interest: one sample per round.
ONCE = {"relin_keygen", "galois_keygen"}


def bench_set(libraries: dict[str, Library], chosen: ParameterSet, rounds: int) -> dict[str, Any]:
    """All operations, sizes and the error of a square at one ring degree."""
    random = numpy.random.default_rng(SEED + chosen.degree)
    inputs = {name: random.uniform(-1, 1, chosen.degree // 2) for name in ("x", "y", "z")}
    operands = [inputs["x"].tolist(), inputs["y"].tolist()]
    opened = {
        key: library.request("open", parameters=chosen.of(key), operands=operands) for key, library in libraries.items()
    }
    operations = list(dict.fromkeys(name for each in opened.values() for name in each["operations"]))
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    keys = list(libraries)
    for turn in range(rounds):
        for operation in operations:
            # The order goes round: nobody always runs on the caches that another has left.
            for key in keys[turn % len(keys) :] + keys[: turn % len(keys)]:
                if operation in opened[key]["operations"]:
                    samples = 1 if operation in ONCE else SAMPLES
                    answer = libraries[key].request("time", operation=operation, samples=samples, sample_ms=SAMPLE_MS)
                    times[operation][key] += answer["times_ns"]
    square = programs(chosen, inputs["y"])["square"]
    expected = evaluate(square, inputs)
    result: dict[str, Any] = {
        "degree": chosen.degree,
        "name": chosen.name,
        "levels": chosen.levels,
        "libraries": {},
    }
    for key, library in libraries.items():
        answer = library.request(
            "evaluate", inputs={name: list(v) for name, v in inputs.items()}, program=square, outputs=["r"]
        )
        error = float(numpy.abs(numpy.array(answer["values"]["r"]) - expected).max())
        result["libraries"][key] = {
            "parameters": {name: opened[key][name] for name in ("name", "log2_qp", "security_bound", "digits")},
            "times_ms": {operation: summary(each[key]) for operation, each in times.items() if key in each},
            "bytes": library.request("sizes"),
            "square_max_error": error,
        }
    return result


def summary(times_ns: list[float]) -> dict[str, float]:
    """Median, least and most, in milliseconds."""
    return {
        "median": statistics.median(times_ns) / 1e6,
        "min": min(times_ns) / 1e6,
        "max": max(times_ns) / 1e6,
    }


def bench(libraries: dict[str, Library], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """Every ring degree."""
    results = []
    for chosen in PARAMETER_SETS:
        print(f"{chosen.name}: {rounds} rounds", flush=True)
        results.append(bench_set(libraries, chosen, rounds))
        print_set(results[-1])
    return results


def print_set(result: dict[str, Any]) -> None:
    """Medians, as soon as they are known."""
    libraries = result["libraries"]
    for operation in libraries["galen"]["times_ms"]:
        medians = {
            key: each["times_ms"][operation]["median"]
            for key, each in libraries.items()
            if operation in each["times_ms"]
        }
        print(f"  {operation:<24}" + "".join(f"  {key} {value:9.3f} ms" for key, value in medians.items()), flush=True)

"""The same inputs encrypted, computed on and decrypted by every library: results must agree with each other and with
the clear computation."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy

from suite import aggregation
from suite.library import Library
from suite.parameters import PARAMETER_SETS, ParameterSet
from suite.programs import evaluate, programs

SEED = 20_260_101
# Least accepted precision against the clear computation, and between two libraries. The least precise result is SEAL's
# sum of rotations at N = 2^15; ours must besides keep what it states, which is more.
TOLERANCE_BITS = 14


class Disagreement(AssertionError):
    """Results differ by more than the tolerance."""


def bits(error: float) -> float:
    """An absolute error as a number of correct bits after the binary point."""
    return -math.log2(error) if error > 0 else math.inf


def check_set(libraries: dict[str, Library], chosen: ParameterSet) -> list[dict[str, Any]]:
    """All programs at one ring degree. One row per program: bits of precision per library, and of agreement."""
    random = numpy.random.default_rng(SEED + chosen.degree)
    slots = chosen.degree // 2
    inputs = {name: random.uniform(-1, 1, slots) for name in ("x", "y", "z")}
    plain = random.uniform(-1, 1, slots)
    for key, library in libraries.items():
        operands = [inputs["x"].tolist(), inputs["y"].tolist()]
        library.request("open", parameters=chosen.of(key), operands=operands)
    sent = {name: values.tolist() for name, values in inputs.items()}
    rows = []
    for name, program in programs(chosen, plain).items():
        expected = evaluate(program, inputs)
        results = {}
        row: dict[str, Any] = {"parameters": chosen.name, "program": name, "precision_bits": {}}
        for key, library in libraries.items():
            answer = library.request("evaluate", inputs=sent, program=program, outputs=["r"])
            results[key] = numpy.array(answer["values"]["r"])
            precision = bits(float(numpy.abs(results[key] - expected).max()))
            row["precision_bits"][key] = precision
            if "stated_bits" in answer:
                row["stated_bits"] = answer["stated_bits"]["r"]
                if precision < row["stated_bits"]:
                    raise Disagreement(
                        f"{chosen.name}, {name}: {precision:.1f} bits, but {row['stated_bits']:.1f} were stated"
                    )
        row["agreement_bits"] = min(
            (bits(float(numpy.abs(a - b).max())) for a, b in combinations(results.values(), 2)), default=math.inf
        )
        if min(row["agreement_bits"], *row["precision_bits"].values()) < TOLERANCE_BITS:
            raise Disagreement(f"{chosen.name}, {name}: {row}")
        rows.append(row)
        print_row(row)
    return rows


def print_row(row: dict[str, Any]) -> None:
    """One line, as soon as it is known."""
    precision = "  ".join(f"{key} {value:5.1f}" for key, value in row["precision_bits"].items())
    print(f"  {row['program']:<38} {precision}  agreement {row['agreement_bits']:5.1f}", flush=True)


def check(libraries: dict[str, Library]) -> dict[str, Any]:
    """Every program at every ring degree, and a small aggregation."""
    rows = []
    for chosen in PARAMETER_SETS:
        print(f"{chosen.name}: bits after the binary point that agree with the clear computation", flush=True)
        rows += check_set(libraries, chosen)
    print("aggregation of 5 contributors of 20,000 values", flush=True)
    sums = aggregation.run(libraries, values=20_000, contributors=5, seed=SEED)
    for key in libraries:
        if key in sums:
            print(f"  {key:<8} largest error of the sum {sums[key]['max_error']:.1e}", flush=True)
    return {"tolerance_bits": TOLERANCE_BITS, "programs": rows, "aggregation": sums}

"""What `check` runs in every library, and the same in the clear."""

from __future__ import annotations

from typing import Any

import numpy
from numpy.typing import NDArray

from suite.parameters import ParameterSet

Vector = NDArray[numpy.float64]
Program = list[dict[str, Any]]

# A polynomial of degree 3 near the logistic function (Kim et al., 2018, for inputs in [-8, 8], here of 8 x).
SIGMOID = (0.5, 1.20096, -0.81562)


def step(to: str, do: str, **fields: Any) -> dict[str, Any]:
    """One step of a program."""
    return {"to": to, "do": do} | fields


def depth_chain(levels: int) -> Program:
    """x times y, again and again down to the last level."""
    return [step("r", "mul", a="x" if level == 0 else "r", b="y") for level in range(levels)]


def neighbours() -> Program:
    """Each slot plus the seven after it, by doubling."""
    result: Program = []
    source = "x"
    for shift in (1, 2, 4):
        result.append(step("t", "rotate", a=source, steps=shift))
        result.append(step("r", "add", a=source, b="t"))
        source = "r"
    return result


def programs(chosen: ParameterSet, values: Vector) -> dict[str, Program]:
    """Programs on x, y and z of at most `levels` products in a row; each leaves its result in r."""
    half = chosen.degree // 4
    c0, c1, c3 = SIGMOID
    return {
        "encrypt and decrypt": [step("r", "negate", a="x"), step("r", "negate", a="r")],
        "sum": [step("r", "add", a="x", b="y")],
        "difference": [step("r", "sub", a="x", b="y")],
        "product": [step("r", "mul", a="x", b="y")],
        "square": [step("r", "square", a="x")],
        "product with a plaintext": [step("r", "mul_plain", a="x", values=values.tolist())],
        "product with a constant, plus one": [
            step("r", "mul_scalar", a="x", value=-0.7331),
            step("r", "add_scalar", a="r", value=0.125),
        ],
        "weighted sum": [step("r", "weighted_sum", of=["x", "y", "z"], weights=[0.31, -0.87, 0.0625])],
        "rotation by 1": [step("r", "rotate", a="x", steps=1)],
        "rotation by -7": [step("r", "rotate", a="x", steps=-7)],
        "rotation by half of the slots": [step("r", "rotate", a="x", steps=half)],
        "sum of 8 neighbours": neighbours(),
        "product plus what is a level above": [
            step("p", "mul", a="x", b="y"),
            step("r", "add", a="p", b="z"),
        ],
        "polynomial of degree 3": [
            step("s", "square", a="x"),
            step("t", "mul_scalar", a="x", value=c3),
            step("r", "mul", a="s", b="t"),
            step("t", "mul_scalar", a="x", value=c1),
            step("r", "add", a="r", b="t"),
            step("r", "add_scalar", a="r", value=c0),
        ],
        f"{chosen.levels} products in a row": depth_chain(chosen.levels),
    }


def evaluate(program: Program, inputs: dict[str, Vector]) -> Vector:
    """The result of a program in the clear."""
    vectors = dict(inputs)
    for this in program:
        # A weighted sum has no first operand, and does not look at it.
        a = vectors[this.get("a", "x")]
        match this["do"]:
            case "add":
                result = a + vectors[this["b"]]
            case "sub":
                result = a - vectors[this["b"]]
            case "negate":
                result = -a
            case "add_scalar":
                result = a + this["value"]
            case "mul":
                result = a * vectors[this["b"]]
            case "square":
                result = a * a
            case "mul_plain":
                result = a * numpy.array(this["values"])
            case "mul_scalar":
                result = a * this["value"]
            case "weighted_sum":
                terms = zip(this["of"], this["weights"], strict=True)
                result = numpy.sum([vectors[name] * weight for name, weight in terms], axis=0)
            case "rotate":
                result = numpy.roll(a, -this["steps"])
            case other:
                raise ValueError(f"unknown step {other}")
        vectors[this["to"]] = result
    return vectors["r"]

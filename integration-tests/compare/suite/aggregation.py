"""Many contributors' updates, summed encrypted: ours under one-round keys, TenSEAL's as federated tools use it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy

from suite.library import Library

# Ours: five custodians of which any three open. Fixed point to 2^-27: rounding then costs what CKKS noise costs there.
CUSTODIANS, THRESHOLD, FRACTION_BITS = 5, 3, 27
MAX_ABS = 1.0
SPREAD = 0.05
# TenSEAL: the parameters of NVFlare's CKKS filter, one secret key.
TENSEAL = {"degree": 8192, "bits": [60, 40, 40], "scale_bits": 40}
# Largest accepted error of a sum.
TOLERANCE = 1e-6


def run(libraries: dict[str, Library], values: int, contributors: int, seed: int) -> dict[str, Any]:
    """Each library sums the same updates; both sums are compared with the clear one."""
    updates = numpy.random.default_rng(seed).normal(0.0, SPREAD, (contributors, values)).clip(-MAX_ABS, MAX_ABS)
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "updates", Path(folder) / "sum"
        updates.astype("<f8").tofile(source)
        for key, library in libraries.items():
            if key not in ("galen", "tenseal"):
                continue
            fields: dict[str, Any] = {"updates": str(source), "contributors": contributors, "sum": str(target)}
            if key == "galen":
                fields |= {
                    "custodians": CUSTODIANS,
                    "threshold": THRESHOLD,
                    "max_abs": MAX_ABS,
                    "fraction_bits": FRACTION_BITS,
                }
            else:
                fields |= {"parameters": TENSEAL}
            result = library.request("aggregate", **fields)
            error = float(numpy.abs(numpy.fromfile(target, "<f8") - updates.sum(axis=0)).max())
            if error > TOLERANCE or result.get("exact") is False:
                raise AssertionError(f"{key}: the sum is off by {error}; {result}")
            results[key] = result | {"max_error": error}
            os.remove(target)
    return {"values": values, "contributors": contributors} | results

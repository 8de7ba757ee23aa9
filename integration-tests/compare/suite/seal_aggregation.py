"""The aggregation of updates with `tenseal.ckks_vector`, as federated learning tools do it: one secret key, held by all
who may read, and public-key encryption at each contributor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import tenseal

from suite.clock import Stopwatch
from suite.server import peak_mib


def aggregate(updates: str, contributors: int, sum: str, parameters: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
    """Encrypt, serialise, deserialise, add, decrypt. Times are of one party each, except for the additions."""
    values = numpy.fromfile(updates, "<f8").reshape(contributors, -1)
    secret = tenseal.context(tenseal.SCHEME_TYPE.CKKS, parameters["degree"], coeff_mod_bit_sizes=parameters["bits"])
    secret.global_scale = 2.0 ** parameters["scale_bits"]
    public = secret.copy()
    public.make_context_public()
    contribute, load, add = [], [], []
    total: Any = None
    upload = 0
    for update in values:
        plain = update.tolist()
        with Stopwatch() as watch:
            sent = tenseal.ckks_vector(public, plain).serialize()
        contribute.append(watch.seconds)
        upload = max(upload, len(sent))
        with Stopwatch() as watch:
            received = tenseal.ckks_vector_from(public, sent)
        load.append(watch.seconds)
        with Stopwatch() as watch:
            if total is None:
                total = received
            else:
                total += received
        add.append(watch.seconds)
    answer = total.serialize()
    with Stopwatch() as watch:
        opened = tenseal.ckks_vector_from(secret, answer).decrypt()
    numpy.array(opened, "<f8").tofile(Path(sum))
    return {
        "parameters": f"N = {parameters['degree']}, {parameters['bits']}, scale 2^{parameters['scale_bits']}",
        "contribute_s": contribute,
        "upload_bytes": upload,
        "add_s": float(numpy.sum(load) + numpy.sum(add)),
        "receive_s": watch.seconds,
        "peak_mib": peak_mib(),
    }

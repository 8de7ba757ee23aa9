"""The goals that the engine is measured by, and whether a run meets them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suite.comparison import OPERATIONS, Comparison

Json = dict[str, Any]

# At this degree: times faster than TenSEAL.
BAR_DEGREE = 1 << 14
FASTER = {
    "multiply_relin_rescale": 6.5,
    "rotate": 6.0,
    "encrypt_public": 8.0,
    "encode": 3.0,
    "decode": 3.0,
}
# Of SEAL's, there: ciphertexts uncompressed, relinearisation keys seeded.
CIPHERTEXT_BYTES, RELIN_BYTES = 0.75, 0.6


@dataclass(frozen=True)
class Bar:
    """A goal in words, what was measured, and the verdict."""

    goal: str
    measured: str
    met: bool


def bars(bench: Json, comparisons: list[Comparison]) -> list[Bar]:
    """All of them."""
    at = next(each for each in comparisons if each.degree == BAR_DEGREE)
    result = [at_least(at, operation, factor) for operation, factor in FASTER.items()]
    result += [
        at_most(at, "ciphertext", CIPHERTEXT_BYTES, "a public-key ciphertext"),
        at_most(at, "relin_key_seeded", RELIN_BYTES, "the relinearisation key (both seeded)"),
        nothing_slower(comparisons),
    ]
    return result + aggregation(bench["aggregation"]["galen"]) + network(bench["networks"])


def at_least(at: Comparison, operation: str, factor: float) -> Bar:
    """A ratio to TenSEAL."""
    measured = at.over_tenseal(operation) or 0.0
    return Bar(
        f"{at.name}: {OPERATIONS[operation]} at least {factor:g} times faster than TenSEAL",
        f"{measured:.2f}",
        measured >= factor,
    )


def at_most(at: Comparison, name: str, factor: float, words: str) -> Bar:
    """A size relative to SEAL's."""
    ours, seal = at.bytes("galen", name), at.reference_bytes("seal_hexl", name)
    zstd = at.bytes("tenseal", name)
    if not (ours and seal and zstd):
        return Bar(f"{at.name}: bytes of {words}", "not measured", False)
    measured = ours / seal
    words = f"{at.name}: bytes of {words} at most {factor:g} of SEAL's"
    return Bar(words, f"{measured:.2f} ({ours / zstd:.2f} of SEAL's with zstd)", measured <= factor)


def nothing_slower(comparisons: list[Comparison]) -> Bar:
    """Every operation at every degree against SEAL with HEXL."""
    ratios = {
        f"{OPERATIONS[operation]} at {each.name}": ratio
        for each in comparisons
        for operation in OPERATIONS
        if (ratio := each.over_hexl(operation)) is not None
    }
    worst = min(ratios, key=lambda name: ratios[name])
    slower = [f"{name} {value:.2f}" for name, value in ratios.items() if value < 1]
    measured = "slower: " + "; ".join(slower) if slower else f"least: {worst}, {ratios[worst]:.2f} times faster"
    return Bar("no operation at any degree slower than SEAL + HEXL's reference", measured, not slower)


def aggregation(ours: Json) -> list[Bar]:
    """A million parameters, ten contributors, five custodians with a threshold of three."""
    contribute = sum(ours["contribute_s"]) / len(ours["contribute_s"])
    upload, answer = ours["upload_bytes"] / 1e6, ours["answer_bytes"] / 1024
    custodian = max(ours["open_s"])
    return [
        Bar("a million parameters: at most 0.035 s per contributor", f"{contribute:.3f} s", contribute <= 0.035),
        Bar("a million parameters: at most 8 MB uploaded", f"{upload:.2f} MB", upload <= 8),
        Bar("a million parameters: at most 64 KB from each custodian", f"{answer:.1f} KiB", answer <= 64),
        Bar("a million parameters: at most 0.02 s at each custodian", f"{custodian:.4f} s", custodian <= 0.02),
        Bar(
            "a million parameters: at most 0.05 s at the receiver",
            f"{ours['receive_s']:.3f} s",
            ours["receive_s"] <= 0.05,
        ),
        Bar("a million parameters: the sum is exact", "exact" if ours["exact"] else "not exact", ours["exact"]),
    ]


def network(runs: list[Json]) -> list[Bar]:
    """CryptoNets on both cores."""
    ours = [each for each in runs if each["library"] == "galen" and each["threads"] == 2]
    if not ours:
        return [Bar("CryptoNets: at least 25 million images an hour on 2 cores", "not measured", False)]
    run = ours[0]
    hourly = run["batch"] / run["server_s"] * 3600 / 1e6
    return [
        Bar("CryptoNets: at least 25 million images an hour on 2 cores", f"{hourly:.1f} million", hourly >= 25),
        Bar(
            "CryptoNets: error below 1e-3 of the range of logits",
            f"{run['relative_error']:.1e}",
            run["relative_error"] < 1e-3,
        ),
        Bar("CryptoNets: peak memory below 2 GiB", f"{run['peak_mib']:.0f} MiB", run["peak_mib"] < 2048),
    ]

"""docs/performance.md from what `check` and `bench` measured and from the reference figures."""

from __future__ import annotations

import json
import textwrap
from typing import Any

from suite.bars import bars
from suite.comparison import OPERATIONS, SIZES, Comparison
from suite.library import SUITE
from suite.tables import NONE, error, number, ratio, spread, table

Json = dict[str, Any]

# A load average from which on others are said to have used the machine.
BUSY = 0.7


def paragraph(text: str) -> str:
    """One line in the source for each line of some 120 characters in the document."""
    return textwrap.fill(" ".join(text.split()), width=120, break_long_words=False, break_on_hyphens=False) + "\n"


def markdown(bench: Json, check: Json) -> str:
    """The whole document."""
    references = json.loads((SUITE / "references.json").read_text())
    comparisons = [Comparison(each, references) for each in bench["operations"]]
    parts = [
        "# Performance\n",
        paragraph(
            """This engine next to the libraries that one would use instead. Everything here is measured by
            `integration-tests/compare/run`, which also writes this file; the reference columns are fixed figures from
            an earlier measurement on the same kind of machine."""
        ),
        conditions(bench, references),
        "## Goals\n",
        goals(bench, comparisons),
        paragraph(
            """What part of the peak of the IFMA instructions the modular matrix product reaches is measured by `cargo
            bench -p galen-rns`, which measures that peak in the same run. The goal is 60%. An AMD EPYC of family 26 gave
            78% for weights of 100 x 845 and 68% to 72% for 845 x 25 (2026-11-22)."""
        ),
        "## Single operations\n",
        paragraph(
            """One thread, CPU time of the process in milliseconds: median [least–most]. All libraries run in turn on the
            same core within one run. Results go to buffers that are reused. `encrypt` starts from an encoded
            plaintext; TenSEAL's figures contain the call from Python, and its encode and decode the conversion of a
            list of floats, some tenths of a millisecond at N = 2^15. *Times faster than SEAL + HEXL* is our ratio to
            TenSEAL in this run over the reference ratio of SEAL + HEXL to TenSEAL, so that a slower or busier machine
            than that of the reference does not count."""
        ),
        *(operations(each, bench) for each in comparisons),
        "## Sizes\n",
        paragraph(
            """Bytes as serialised by default: ours bit-packed, TenSEAL's compressed by zstd, those of SEAL + HEXL and
            the other references uncompressed. *Seeded* means that a uniform half is replaced by its seed; our keys
            always are."""
        ),
        *(sizes(each, bench) for each in comparisons),
        "## Agreement and precision\n",
        precision(check),
        "## A million parameters, ten contributors\n",
        aggregation(bench, references),
        "## CryptoNets on a full batch\n",
        network(bench, references),
    ]
    return "\n".join(parts)


def conditions(bench: Json, references: Json) -> str:
    """Machine, versions, parameters."""
    about = bench["about"]
    rows = [[each["library"], each["version"], each["backend"]] for each in about.values()] + [
        [f"{each['name']} (reference)", each["version"], ""] for each in references["libraries"].values()
    ]
    chains = [
        [
            each["name"],
            about[key]["library"],
            f"`{chosen['parameters']['name']}`",
            str(chosen["parameters"]["log2_qp"] or NONE),
            str(chosen["parameters"]["security_bound"] or NONE),
            str(chosen["parameters"]["digits"]),
        ]
        for each in bench["operations"]
        for key, chosen in each["libraries"].items()
    ]
    return "\n".join(
        [
            paragraph(
                f"""Measured on {bench["date"]}: {about["galen"]["machine"]}. References: {references["machine"]}.
                {references["about"]}"""
            ),
            *busy(bench),
            table(["library", "version", "backend"], rows, words=3),
            paragraph(
                """Parameters, all for 128-bit security; log2 QP counts the primes of key switching. Our bound is that of
                the Security Guidelines for Implementing Homomorphic Encryption (ePrint 2024/463), which is lower than
                SEAL's; OpenFHE checks its own. All have ternary secrets and the same number of primes in Q; a digit
                is a group of primes that key switching takes at once. Our scale is larger than the 2^40 of the others
                (the name of a preset says base prime, rescaling primes and special primes with their bits): SEAL
                encrypts modulo one prime more and divides by it, which takes off three to four bits of noise; at our
                scale precision is about the same at N = 2^15 and better below. A larger scale costs bytes, which are
                counted below, and at N = 2^15 a third digit of key switching where 2^40 would leave room for two, but
                no time otherwise, as all primes are below 2^50."""
            ),
            table(["degree", "library", "parameters", "log2 QP", "bound", "digits"], chains, words=3),
            paragraph("Reference chains: " + references["chains"]),
        ]
    )


def busy(bench: Json) -> list[str]:
    """A warning where others used the machine."""
    if bench["load"] < BUSY:
        return []
    return [
        paragraph(
            f"""**The machine was busy**: its load was {bench["load"]:.1f} when the measurement began. CPU times are larger
            than on an idle one, ratios less so; wall clock, of which the network on two threads is, means little."""
        )
    ]


def goals(bench: Json, comparisons: list[Comparison]) -> str:
    """Each bar, what was measured, and whether that meets it."""
    rows = [[bar.goal, bar.measured, "met" if bar.met else "**not met**"] for bar in bars(bench, comparisons)]
    return table(["goal", "measured", ""], rows, words=3)


def operations(comparison: Comparison, bench: Json) -> str:
    """Times at one ring degree."""
    others = [key for key in bench["about"] if key not in ("galen", "tenseal")]
    head = ["operation", f"Galen `{comparison.preset}`", "TenSEAL", "times faster"]
    head += [bench["about"][key]["library"] for key in others]
    head += ["SEAL + HEXL, reference", "times faster", "best other reference"]
    rows = []
    for operation, words in OPERATIONS.items():
        best = comparison.best_reference(operation)
        rows.append(
            [
                words,
                spread(comparison.times("galen", operation)),
                spread(comparison.times("tenseal", operation)),
                ratio(comparison.over_tenseal(operation)),
                *(spread(comparison.times(key, operation)) for key in others),
                number(comparison.reference("seal_hexl", operation)),
                ratio(comparison.over_hexl(operation)),
                f"{number(best[1])} ({best[0]})" if best else NONE,
            ]
        )
    return f"### {comparison.name}, {comparison.levels} rescalings\n\n" + table(head, rows)


def sizes(comparison: Comparison, bench: Json) -> str:
    """Bytes at one ring degree."""
    others = [key for key in bench["about"] if key != "galen"]
    head = [comparison.name, "Galen"] + [bench["about"][key]["library"] for key in others] + ["SEAL + HEXL", "Lattigo"]
    rows = []
    for name, words in SIZES.items():
        figures = [comparison.bytes(key, name) for key in ("galen", *others)]
        figures += [comparison.reference_bytes(key, name) for key in ("seal_hexl", "lattigo")]
        rows.append([words, *(f"{each:,}" if each else NONE for each in figures)])
    return table(head, rows)


def precision(check: Json) -> str:
    """What every program's result was off by, in bits."""
    libraries = list(check["programs"][0]["precision_bits"])
    rows = [
        [
            f"{row['parameters']}: {row['program']}",
            *(f"{row['precision_bits'][key]:.1f}" for key in libraries),
            f"{row['stated_bits']:.1f}",
            f"{row['agreement_bits']:.1f}",
        ]
        for row in check["programs"]
    ]
    return "\n".join(
        [
            paragraph(
                f"""The same random inputs in [-1, 1], encrypted, computed on and decrypted in every library: bits after
                the binary point of the worst slot against the clear computation, and of the worst disagreement
                between two libraries. *Stated* is what our engine promises for its result before it decrypts. OpenFHE
                adds noise of its own when it decrypts. The check fails below {check["tolerance_bits"]} bits, or where
                ours is below what it stated."""
            ),
            table(["program", *libraries, "galen, stated", "agreement"], rows),
        ]
    )


def aggregation(bench: Json, references: Json) -> str:
    """One round of a federation."""
    measured = bench["aggregation"]
    rows = []
    for key in ("galen", "tenseal"):
        each = measured[key]
        own = key == "galen"
        rows.append(
            [
                f"{bench['about'][key]['library']}: {each['parameters']}",
                number(sum(each["contribute_s"]) / len(each["contribute_s"])),
                number(each["upload_bytes"] / 1e6),
                number(each["add_s"]),
                number(each["answer_bytes"] / 1e6) if own else NONE,
                number(max(each["open_s"])) if own else NONE,
                number(each["receive_s"]),
                error(each["max_error"]),
            ]
        )
    for each in references["aggregation"]["rows"]:
        rows.append(
            [
                f"{each['library']} (reference)",
                *(
                    number(each[name])
                    for name in ("contribute_s", "upload_mb", "server_s", "share_mb", "share_s", "receive_s")
                ),
                error(each["max_error"]),
            ]
        )
    head = [
        "",
        "contributor s",
        "upload MB",
        "coordinator s",
        "opening MB",
        "custodian s",
        "receiver s",
        "error of the sum",
    ]
    return "\n".join(
        [
            paragraph(
                f"""{measured["contributors"]} contributors encode, encrypt and serialise {measured["values"]:,} values
                each; the coordinator checks or deserialises them and adds; the sum is opened and read. Ours:
                one-round keys in pieces, five custodians of which any three open; a contributor also seals its key's
                seeds and signs, a custodian's time is all that it does in the round, its opening is what it sends to
                all receivers together. Our sum is that of the fixed-point values
                {"to the bit" if measured["galen"]["exact"] else "NOT to the bit"}; the error is that of rounding to
                fixed point. One thread, CPU seconds."""
            ),
            table(head, rows),
            paragraph("References: " + references["aggregation"]["about"]),
        ]
    )


def network(bench: Json, references: Json) -> str:
    """A batch of images."""
    rows = []
    for each in bench["networks"]:
        rows.append(
            [
                f"{bench['about'][each['library']]['library']}: {each['parameters']}",
                str(each["threads"]),
                str(each["batch"]),
                number(each["encrypt_s"]),
                number(each["server_s"]),
                number(1e3 * each["server_s"] / each["batch"]),
                number(each["batch"] / each["server_s"] * 3600 / 1e6),
                number(each["peak_mib"]),
                error(each["relative_error"]),
            ]
        )
    for each in references["network"]["rows"]:
        rows.append(
            [
                f"{each['library']} (reference)",
                str(each["threads"]),
                str(each["batch"]),
                number(each["encrypt_s"]),
                number(each["server_s"]),
                number(1e3 * each["server_s"] / each["batch"]),
                number(each["batch"] / each["server_s"] * 3600 / 1e6),
                number(each["peak_mib"]),
                error(each["max_error"]),
            ]
        )
    head = ["", "threads", "images", "client s", "server s", "ms/image", "million images/h", "peak MiB", "error"]
    stages = [
        [f"{bench['about'][each['library']]['library']}, {each['threads']} thread(s)", name, number(seconds)]
        for each in bench["networks"]
        for name, seconds in each["stages_s"]
    ]
    return "\n".join(
        [
            paragraph(
                """Convolution 5x5, stride 2, padding 1, to 5 maps of 13x13; square; dense 845-100; square; dense 100-10.
                One image per slot, random weights, all logits of all images compared with the clear computation: the
                error is relative to their range (absolute for the references). Client: encode and encrypt the batch,
                ours under the client's own secret key, seeded, the others' under a public key. Server: from the
                ciphertexts to the encrypted logits; the median of several runs of ours, one of TenSEAL. Peak memory
                is of the whole process, the client's ciphertexts and key included. One thread: CPU time; more: wall
                clock."""
            ),
            table(head, rows),
            table(["", "stage", "s"], stages, words=2),
            paragraph("References: " + references["network"]["about"]),
        ]
    )

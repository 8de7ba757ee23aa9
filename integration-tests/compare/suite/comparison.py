"""One ring degree: what was measured in this run, and the reference figures for it."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

OPERATIONS = {
    "encode": "encode",
    "encrypt_public": "encrypt (public key)",
    "encrypt_secret": "encrypt (secret key, seeded)",
    "decrypt": "decrypt",
    "decode": "decode",
    "decrypt_decode": "decrypt and decode",
    "add": "ct + ct",
    "multiply_scalar": "ct × constant",
    "multiply_plain": "ct × plaintext",
    "multiply_plain_rescale": "ct × plaintext, rescale",
    "multiply_relin_rescale": "ct × ct, relinearise, rescale",
    "square_relin_rescale": "ct², relinearise, rescale",
    "rescale": "rescale",
    "rotate": "rotate by 1",
    "relin_keygen": "make a relinearisation key",
    "galois_keygen": "make a rotation key",
}

SIZES = {
    "ciphertext": "ciphertext (public key)",
    "ciphertext_seeded": "ciphertext (secret key, seeded)",
    "public_key": "public key",
    "relin_key": "relinearisation key",
    "relin_key_seeded": "relinearisation key, seeded",
    "galois_key": "rotation key",
    "galois_key_seeded": "rotation key, seeded",
}


class Comparison:
    """Times in milliseconds; None for what a library does not have."""

    def __init__(self, measured: Json, references: Json) -> None:
        self.name: str = measured["name"]
        self.degree: int = measured["degree"]
        self.levels: int = measured["levels"]
        self.preset: str = measured["libraries"]["galen"]["parameters"]["name"]
        self._measured = measured["libraries"]
        self._references = references["operations"][str(self.degree)]
        self._names = {key: each["name"] for key, each in references["libraries"].items()}

    def times(self, library: str, operation: str) -> dict[str, float] | None:
        """Median, least and most of this run."""
        times = self._measured[library]["times_ms"]
        if operation == "decrypt_decode" and operation not in times:
            parts = [times["decrypt"], times["decode"]]
            return {name: sum(part[name] for part in parts) for name in ("median", "min", "max")}
        return times.get(operation)

    def reference(self, library: str, operation: str) -> float | None:
        """A reference median."""
        times = self._references[library]["times_ms"]
        if operation == "decrypt_decode" and {"decrypt", "decode"} <= times.keys():
            return times["decrypt"] + times["decode"]
        return times.get(operation)

    def over_tenseal(self, operation: str) -> float | None:
        """How many times faster than TenSEAL ours was in this run."""
        ours, theirs = self.times("galen", operation), self.times("tenseal", operation)
        return theirs["median"] / ours["median"] if ours and theirs else None

    def over_hexl(self, operation: str) -> float | None:
        """The same for SEAL with HEXL, whose reference is carried over to this run by that of TenSEAL."""
        measured = self.over_tenseal(operation)
        hexl, tenseal = self.reference("seal_hexl", operation), self.reference("tenseal", operation)
        return measured * hexl / tenseal if measured and hexl and tenseal else None

    def best_reference(self, operation: str) -> tuple[str, float] | None:
        """The fastest of the references other than SEAL with HEXL, and its median."""
        figures = [
            (value, key)
            for key in self._references
            if key not in ("seal_hexl", "tenseal") and (value := self.reference(key, operation)) is not None
        ]
        if not figures:
            return None
        value, key = min(figures)
        return self._names[key], value

    def bytes(self, library: str, name: str) -> int | None:
        """A size in this run."""
        return self._measured[library]["bytes"].get(name)

    def reference_bytes(self, library: str, name: str) -> int | None:
        """A size of a reference."""
        return self._references[library]["bytes"].get(name)

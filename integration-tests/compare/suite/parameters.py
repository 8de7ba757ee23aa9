"""The parameter sets that are compared: per ring degree one for each library, all within 128-bit security."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# Of the other libraries.
SCALE_BITS = 40


@dataclass(frozen=True)
class ParameterSet:
    """One ring degree. Every library gets the same number of primes in Q. SEAL encrypts modulo one prime more and divides
    by it, which takes off most of the noise of a public-key encryption; ours takes a larger scale instead, which gives
    about the same precision or more and costs bytes (and at 2^15 a third digit), but no time, as all primes are below 2^50."""

    degree: int
    # Rescalings that a fresh ciphertext allows: primes in Q, less one.
    levels: int
    # Ours: bits of the scale and of the rescaling primes, special primes, their bits, primes per digit of key switching.
    scale_bits: int
    special: int
    special_bits: int
    digit: int

    @property
    def name(self) -> str:
        """As in tables."""
        return f"N = 2^{self.degree.bit_length() - 1}"

    def of(self, library: str) -> dict[str, Any]:
        """What `open` takes for a library."""
        match library:
            case "galen":
                return {
                    "degree": self.degree,
                    "base_bits": 50,
                    "levels": self.levels,
                    "scale_bits": self.scale_bits,
                    "special": self.special,
                    "special_bits": self.special_bits,
                    "digit": self.digit,
                }
            case "tenseal":
                bits = [60] + [SCALE_BITS] * self.levels + [60]
                return {"degree": self.degree, "bits": bits, "scale_bits": SCALE_BITS}
            case "openfhe":
                return {
                    "degree": self.degree,
                    "levels": self.levels,
                    # OpenFHE counts a little more towards its bound than the chain has, so that 60 does not fit at 2^13.
                    "base_bits": 60 if self.degree > 1 << 13 else 50,
                    "scale_bits": SCALE_BITS,
                }
            case other:
                raise ValueError(f"no parameters for {other}")


PARAMETER_SETS = [
    ParameterSet(degree=1 << 13, levels=2, scale_bits=45, special=1, special_bits=50, digit=1),
    ParameterSet(degree=1 << 14, levels=5, scale_bits=45, special=3, special_bits=50, digit=3),
    ParameterSet(degree=1 << 15, levels=12, scale_bits=44, special=5, special_bits=46, digit=5),
]


@dataclass(frozen=True)
class NetworkRun:
    """Who runs the network, on how many images, with how many threads, how often."""

    library: str
    batch: int
    threads: int
    runs: int
    parameters: dict[str, Any]


# As many real slots as coefficients; few wide primes, since nothing is rescaled before the second square.
NETWORK_PRESET = {
    "real": True,
    "degree": 8192,
    "base_bits": 50,
    "levels": 3,
    "scale_bits": 38,
    "special": 1,
    "special_bits": 50,
    "digit": 1,
}
NETWORK_RUNS = [
    NetworkRun("galen", 8192, 1, 5, NETWORK_PRESET),
    NetworkRun("galen", 8192, 2, 5, NETWORK_PRESET),
    NetworkRun("tenseal", 4096, 1, 1, {"degree": 8192, "bits": [33] + [30] * 5 + [35], "scale_bits": 30}),
]

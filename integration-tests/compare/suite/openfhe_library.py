"""OpenFHE's wheel. Its extension is built for one Python only, so this may run under another one than the rest."""

from __future__ import annotations

import os
import tempfile
from functools import reduce
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy
import openfhe

from suite.server import Program, Server, serve

SCALAR = 0.7
# Key-switching digits, its usual choice.
LARGE_DIGITS = 3
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


class OpenFhe(Server):
    """One parameter set at a time. Time is measured with rescaling by hand, programs run with automatic rescaling."""

    def hello(self) -> dict[str, Any]:
        return {"library": "OpenFHE", "version": version("openfhe"), "backend": "as built for the wheel, HYBRID"}

    def open(self, parameters: dict[str, Any], operands: list[list[float]]) -> dict[str, Any]:
        # Contexts and evaluation keys are kept by the library until they are released.
        openfhe.ClearEvalMultKeys()
        openfhe.ReleaseAllContexts()
        self.parameters = parameters
        # Context and keys for programs, made when they are needed.
        self.automatic: tuple[Any, Any] | None = None
        self.context, self.keys = self._context(openfhe.FIXEDMANUAL)
        self.context.EvalRotateKeyGen(self.keys.secretKey, [1])
        self.values = [numpy.array(values) for values in operands]
        self.plain = [self.context.MakeCKKSPackedPlaintext(values) for values in self.values]
        self.encrypted = [self.context.Encrypt(self.keys.publicKey, plain) for plain in self.plain]
        self.operations = self._operations()
        return {
            "name": f"n{parameters['degree']} [{parameters['base_bits']}, {parameters['scale_bits']}x{parameters['levels']}]",
            "log2_qp": None,
            "security_bound": None,
            "levels": parameters["levels"],
            "slots": parameters["degree"] // 2,
            "digits": LARGE_DIGITS,
            "operations": list(self.operations),
        }

    def _context(self, technique: Any) -> tuple[Any, Any]:
        chosen = openfhe.CCParamsCKKSRNS()
        chosen.SetMultiplicativeDepth(self.parameters["levels"])
        chosen.SetFirstModSize(self.parameters["base_bits"])
        chosen.SetScalingModSize(self.parameters["scale_bits"])
        chosen.SetRingDim(self.parameters["degree"])
        chosen.SetBatchSize(self.parameters["degree"] // 2)
        chosen.SetSecurityLevel(openfhe.HEStd_128_classic)
        chosen.SetScalingTechnique(technique)
        chosen.SetKeySwitchTechnique(openfhe.HYBRID)
        chosen.SetNumLargeDigits(min(LARGE_DIGITS, self.parameters["levels"] + 1))
        context = openfhe.GenCryptoContext(chosen)
        for feature in (openfhe.PKE, openfhe.KEYSWITCH, openfhe.LEVELEDSHE, openfhe.ADVANCEDSHE):
            context.Enable(feature)
        keys = context.KeyGen()
        context.EvalMultKeyGen(keys.secretKey)
        return context, keys

    def _operations(self) -> dict[str, Any]:
        (plain, factor), (a, b) = self.plain, self.encrypted
        context, values = self.context, self.values[0]
        product = context.EvalMult(a, factor)

        def relin_keygen() -> None:
            # It makes none where there is one.
            openfhe.ClearEvalMultKeys()
            context.EvalMultKeyGen(self.keys.secretKey)

        return {
            "encode": lambda: context.MakeCKKSPackedPlaintext(values),
            "encrypt_public": lambda: context.Encrypt(self.keys.publicKey, plain),
            # One call does both.
            "decrypt_decode": lambda: context.Decrypt(a, self.keys.secretKey),
            "add": lambda: context.EvalAdd(a, b),
            "multiply_scalar": lambda: context.EvalMult(a, SCALAR),
            "multiply_plain": lambda: context.EvalMult(a, factor),
            "multiply_plain_rescale": lambda: context.Rescale(context.EvalMult(a, factor)),
            "multiply_relin_rescale": lambda: context.Rescale(context.EvalMult(a, b)),
            "square_relin_rescale": lambda: context.Rescale(context.EvalSquare(a)),
            "rescale": lambda: context.Rescale(product),
            "rotate": lambda: context.EvalRotate(a, 1),
            "relin_keygen": relin_keygen,
        }

    def sizes(self) -> dict[str, int]:
        path = SCRATCH / f"galen-compare-{os.getpid()}"
        sizes = {
            "ciphertext": len(openfhe.Serialize(self.encrypted[0], openfhe.BINARY)),
            "public_key": len(openfhe.Serialize(self.keys.publicKey, openfhe.BINARY)),
        }
        tag = self.keys.secretKey.GetKeyTag()
        try:
            self.context.SerializeEvalMultKey(str(path), openfhe.BINARY, tag)
            sizes["relin_key"] = path.stat().st_size
            self.context.SerializeEvalAutomorphismKey(str(path), openfhe.BINARY, tag)
            sizes["galois_key"] = path.stat().st_size
        finally:
            path.unlink(missing_ok=True)
        return sizes

    def evaluate(self, inputs: dict[str, list[float]], program: Program, outputs: list[str]) -> dict[str, Any]:
        if self.automatic is None:
            self.automatic = self._context(openfhe.FLEXIBLEAUTO)
        context, keys = self.automatic
        if steps := [step["steps"] for step in program if step["do"] == "rotate"]:
            context.EvalRotateKeyGen(keys.secretKey, steps)
        vectors = {
            name: context.Encrypt(keys.publicKey, context.MakeCKKSPackedPlaintext(numpy.array(values)))
            for name, values in inputs.items()
        }
        for step in program:
            vectors[step["to"]] = apply(context, vectors, step)
        values = {}
        for name in outputs:
            plain = context.Decrypt(vectors[name], keys.secretKey)
            plain.SetLength(self.parameters["degree"] // 2)
            values[name] = list(plain.GetRealPackedValue())
        return {"values": values}


def apply(context: Any, vectors: dict[str, Any], step: dict[str, Any]) -> Any:
    """One step; see `src/program.rs` for their meaning."""
    # A weighted sum has no first operand.
    a = vectors.get(step.get("a", ""))
    match step["do"]:
        case "add":
            return context.EvalAdd(a, vectors[step["b"]])
        case "sub":
            return context.EvalSub(a, vectors[step["b"]])
        case "negate":
            return context.EvalNegate(a)
        case "add_scalar":
            return context.EvalAdd(a, step["value"])
        case "mul":
            return context.EvalMult(a, vectors[step["b"]])
        case "square":
            return context.EvalSquare(a)
        case "mul_plain":
            return context.EvalMult(a, context.MakeCKKSPackedPlaintext(numpy.array(step["values"])))
        case "mul_scalar":
            return context.EvalMult(a, step["value"])
        case "weighted_sum":
            terms = zip(step["of"], step["weights"], strict=True)
            return reduce(context.EvalAdd, [context.EvalMult(vectors[name], weight) for name, weight in terms])
        case "rotate":
            return context.EvalRotate(a, step["steps"])
        case other:
            raise ValueError(f"unknown step {other}")


if __name__ == "__main__":
    serve(OpenFhe())

"""Microsoft SEAL as TenSEAL's wheel carries it, through `tenseal.sealapi`: one Python call per SEAL call."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import tenseal
import tenseal.sealapi as seal

from suite.seal_aggregation import aggregate
from suite.seal_network import network
from suite.server import Program, Server, serve

SCALAR = 0.7
# Files in memory: SEAL objects save themselves to paths only.
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


def saved_bytes(thing: Any) -> int:
    """Length of what SEAL writes, compressed by its default (zstd)."""
    path = SCRATCH / f"galen-compare-{os.getpid()}"
    try:
        thing.save(str(path))
        return path.stat().st_size
    finally:
        path.unlink(missing_ok=True)


class Seal(Server):
    """One parameter set at a time."""

    def hello(self) -> dict[str, Any]:
        return {"library": "TenSEAL", "version": tenseal.__version__, "backend": "Microsoft SEAL without HEXL"}

    def open(self, parameters: dict[str, Any], operands: list[list[float]]) -> dict[str, Any]:
        degree, bits = parameters["degree"], parameters["bits"]
        self.scale = 2.0 ** parameters["scale_bits"]
        parms = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parms.set_poly_modulus_degree(degree)
        parms.set_coeff_modulus(seal.CoeffModulus.Create(degree, bits))
        # SEAL itself refuses what is above its bound for 128-bit security.
        self.context = seal.SEALContext(parms, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise ValueError(self.context.parameters_error_message())
        self.keygen = seal.KeyGenerator(self.context)
        self.secret = self.keygen.secret_key()
        self.public, self.relin = seal.PublicKey(), seal.RelinKeys()
        self.keygen.create_public_key(self.public)
        self.keygen.create_relin_keys(self.relin)
        self.galois = self._galois_keys([1])
        self.encoder = seal.CKKSEncoder(self.context)
        self.encryptor = seal.Encryptor(self.context, self.public, self.secret)
        self.decryptor = seal.Decryptor(self.context, self.secret)
        self.evaluator = seal.Evaluator(self.context)
        # Primes of the levels, that of level 0 first; the last of the chain is for key switching only.
        self.primes = [modulus.value() for modulus in parms.coeff_modulus()][:-1]
        self.operands = operands
        self.plain = [self._encode(values) for values in operands]
        self.encrypted = [self._encrypt(plain) for plain in self.plain]
        self.operations = self._operations()
        return {
            "name": f"n{degree} {bits}",
            "log2_qp": sum(bits),
            "security_bound": seal.CoeffModulus.MaxBitCount(degree, seal.SEC_LEVEL_TYPE.TC128),
            "levels": len(bits) - 2,
            "slots": self.encoder.slot_count(),
            "digits": len(bits) - 1,
            "operations": list(self.operations),
        }

    def _galois_keys(self, steps: list[int]) -> seal.GaloisKeys:
        """Keys for rotations; the wheel's binding takes Galois elements, 3^steps modulo 2N, not steps."""
        order = 2 * self.context.key_context_data().parms().poly_modulus_degree()
        elements = [pow(3, step % (order // 4), order) for step in steps]
        keys = seal.GaloisKeys()
        self.keygen.create_galois_keys(elements, keys)
        return keys

    def _encode(self, values: list[float]) -> seal.Plaintext:
        plain = seal.Plaintext()
        self.encoder.encode(values, self.scale, plain)
        return plain

    def _encrypt(self, plain: seal.Plaintext) -> seal.Ciphertext:
        encrypted = seal.Ciphertext()
        self.encryptor.encrypt(plain, encrypted)
        return encrypted

    def _operations(self) -> dict[str, Any]:
        """The work of each measured operation. Results go to where earlier ones were."""
        (plain, factor), (a, b) = self.plain, self.encrypted
        values = self.operands[0]
        encoded, decrypted, read = seal.Plaintext(), seal.Plaintext(), seal.Plaintext()
        out, relin, galois = seal.Ciphertext(), seal.RelinKeys(), seal.GaloisKeys()
        self.decryptor.decrypt(a, read)
        product = seal.Ciphertext()
        evaluator = self.evaluator
        evaluator.multiply_plain(a, factor, product)
        scalar = seal.Plaintext()

        def multiply_scalar() -> None:
            # SEAL multiplies by a constant through a constant plaintext.
            self.encoder.encode(SCALAR, self.scale, scalar)
            evaluator.multiply_plain(a, scalar, out)

        def multiply_plain_rescale() -> None:
            evaluator.multiply_plain(a, factor, out)
            evaluator.rescale_to_next_inplace(out)

        def multiply_relin_rescale() -> None:
            evaluator.multiply(a, b, out)
            evaluator.relinearize_inplace(out, self.relin)
            evaluator.rescale_to_next_inplace(out)

        def square_relin_rescale() -> None:
            evaluator.square(a, out)
            evaluator.relinearize_inplace(out, self.relin)
            evaluator.rescale_to_next_inplace(out)

        return {
            "encode": lambda: self.encoder.encode(values, self.scale, encoded),
            "encrypt_public": lambda: self.encryptor.encrypt(plain, out),
            "encrypt_secret": lambda: self.encryptor.encrypt_symmetric(plain, out),
            "decrypt": lambda: self.decryptor.decrypt(a, decrypted),
            "decode": lambda: self.encoder.decode_double(read),
            "add": lambda: evaluator.add(a, b, out),
            "multiply_scalar": multiply_scalar,
            "multiply_plain": lambda: evaluator.multiply_plain(a, factor, out),
            "multiply_plain_rescale": multiply_plain_rescale,
            "multiply_relin_rescale": multiply_relin_rescale,
            "square_relin_rescale": square_relin_rescale,
            "rescale": lambda: evaluator.rescale_to_next(product, out),
            "rotate": lambda: evaluator.rotate_vector(a, 1, self.galois, out),
            "relin_keygen": lambda: self.keygen.create_relin_keys(relin),
            "galois_keygen": lambda: self.keygen.create_galois_keys([3], galois),
        }

    def sizes(self) -> dict[str, int]:
        return {
            "ciphertext": saved_bytes(self.encrypted[0]),
            "ciphertext_seeded": saved_bytes(self.encryptor.encrypt_symmetric(self.plain[0])),
            "public_key": saved_bytes(self.public),
            "relin_key": saved_bytes(self.relin),
            "relin_key_seeded": saved_bytes(self.keygen.create_relin_keys()),
            "galois_key": saved_bytes(self.galois),
            "galois_key_seeded": saved_bytes(self.keygen.create_galois_keys([3])),
        }

    def evaluate(self, inputs: dict[str, list[float]], program: Program, outputs: list[str]) -> dict[str, Any]:
        machine = Machine(self, self._galois_keys([step["steps"] for step in program if step["do"] == "rotate"]))
        machine.vectors = {name: self._encrypt(self._encode(values)) for name, values in inputs.items()}
        for step in program:
            machine.vectors[step["to"]] = machine.apply(step)
        values = {}
        for name in outputs:
            plain = seal.Plaintext()
            self.decryptor.decrypt(machine.vectors[name], plain)
            values[name] = self.encoder.decode_double(plain)
        return {"values": values}

    def aggregate(self, **fields: Any) -> dict[str, Any]:
        """See `seal_aggregation`."""
        return aggregate(**fields)

    def network(self, **fields: Any) -> dict[str, Any]:
        """See `seal_network`."""
        return network(**fields)


class Machine:
    """Named ciphertexts and the steps of a program on them. SEAL leaves levels and scales to its caller."""

    def __init__(self, library: Seal, galois: seal.GaloisKeys) -> None:
        self.library, self.galois = library, galois
        self.vectors: dict[str, seal.Ciphertext] = {}

    def _constant(self, value: float, at: seal.Ciphertext, scale: float) -> seal.Plaintext:
        plain = seal.Plaintext()
        self.library.encoder.encode(value, at.parms_id(), scale, plain)
        return plain

    def _times(self, a: seal.Ciphertext, value: float, scale: float) -> seal.Ciphertext:
        """`value * a`, rescaled to exactly `scale`."""
        prime = self.library.primes[a.coeff_modulus_size() - 1]
        out = seal.Ciphertext()
        self.library.evaluator.multiply_plain(a, self._constant(value, a, scale * prime / a.scale), out)
        self.library.evaluator.rescale_to_next_inplace(out)
        out.scale = scale
        return out

    def _aligned(self, a: seal.Ciphertext, b: seal.Ciphertext) -> tuple[seal.Ciphertext, seal.Ciphertext]:
        """Both at one level and scale, without pretending that two scales are the same."""
        if a.coeff_modulus_size() < b.coeff_modulus_size():
            b, a = self._aligned(b, a)
            return a, b
        if a.coeff_modulus_size() == b.coeff_modulus_size():
            if a.scale == b.scale:
                return a, b
            return self._times(a, 1.0, self.library.scale), self._times(b, 1.0, self.library.scale)
        dropped = seal.Ciphertext()
        evaluator = self.library.evaluator
        while a.coeff_modulus_size() > b.coeff_modulus_size() + 1:
            evaluator.mod_switch_to_next(a, dropped)
            a, dropped = dropped, seal.Ciphertext()
        return self._times(a, 1.0, b.scale), b

    def _same_level(self, a: seal.Ciphertext, b: seal.Ciphertext) -> tuple[seal.Ciphertext, seal.Ciphertext]:
        """Both at one level, whatever their scales: enough for a product."""
        evaluator = self.library.evaluator
        lowest = min(a, b, key=lambda ct: ct.coeff_modulus_size()).parms_id()
        switched = []
        for ct in (a, b):
            out = seal.Ciphertext()
            evaluator.mod_switch_to(ct, lowest, out)
            switched.append(out)
        return switched[0], switched[1]

    def _finish(self, product: seal.Ciphertext) -> seal.Ciphertext:
        self.library.evaluator.relinearize_inplace(product, self.library.relin)
        self.library.evaluator.rescale_to_next_inplace(product)
        return product

    def apply(self, step: dict[str, Any]) -> seal.Ciphertext:
        """One step; see `src/program.rs` for their meaning."""
        evaluator, out = self.library.evaluator, seal.Ciphertext()
        # A weighted sum has no first operand.
        a: Any = self.vectors.get(step.get("a", ""))
        match step["do"]:
            case "add":
                evaluator.add(*self._aligned(a, self.vectors[step["b"]]), out)
            case "sub":
                evaluator.sub(*self._aligned(a, self.vectors[step["b"]]), out)
            case "negate":
                evaluator.negate(a, out)
            case "add_scalar":
                evaluator.add_plain(a, self._constant(step["value"], a, a.scale), out)
            case "mul":
                evaluator.multiply(*self._same_level(a, self.vectors[step["b"]]), out)
                return self._finish(out)
            case "square":
                evaluator.square(a, out)
                return self._finish(out)
            case "mul_plain":
                plain = seal.Plaintext()
                self.library.encoder.encode(step["values"], a.parms_id(), self.library.scale, plain)
                evaluator.multiply_plain(a, plain, out)
                evaluator.rescale_to_next_inplace(out)
            case "mul_scalar":
                return self._times(a, step["value"], self.library.scale)
            case "weighted_sum":
                return self._weighted_sum(step["of"], step["weights"])
            case "rotate":
                evaluator.rotate_vector(a, step["steps"], self.galois, out)
            case other:
                raise ValueError(f"unknown step {other}")
        return out

    def _weighted_sum(self, names: list[str], weights: list[float]) -> seal.Ciphertext:
        """All terms are brought to the lowest level, weighed at it, added and rescaled once."""
        evaluator, scale = self.library.evaluator, self.library.scale
        terms = [self.vectors[name] for name in names]
        lowest = min(terms, key=lambda ct: ct.coeff_modulus_size())
        prime = self.library.primes[lowest.coeff_modulus_size() - 1]
        total: Any = None
        for term, weight in zip(terms, weights, strict=True):
            switched, product = seal.Ciphertext(), seal.Ciphertext()
            evaluator.mod_switch_to(term, lowest.parms_id(), switched)
            constant = self._constant(weight, switched, scale * prime / switched.scale)
            evaluator.multiply_plain(switched, constant, product)
            product.scale = scale * prime
            if total is None:
                total = product
            else:
                evaluator.add_inplace(total, product)
        evaluator.rescale_to_next_inplace(total)
        total.scale = scale
        return total


if __name__ == "__main__":
    serve(Seal())

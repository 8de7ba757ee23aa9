"""The CryptoNets network through SEAL calls: one ciphertext per pixel, map element or neuron, one image per slot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy
import tenseal.sealapi as seal

from suite.clock import Stopwatch
from suite.network import CLASSES, HIDDEN, KERNEL, MAPS, OUT, SIDE, taps
from suite.server import peak_mib

Row = list[tuple[int, float]]


class Runner:
    """Weighted sums and squares at one scale: weights are encoded so that a rescale lands on it exactly."""

    def __init__(self, degree: int, bits: list[int], scale_bits: int) -> None:
        parms = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        parms.set_poly_modulus_degree(degree)
        parms.set_coeff_modulus(seal.CoeffModulus.Create(degree, bits))
        self.context = seal.SEALContext(parms, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise ValueError(self.context.parameters_error_message())
        self.scale = 2.0**scale_bits
        self.primes = [modulus.value() for modulus in parms.coeff_modulus()]
        keygen = seal.KeyGenerator(self.context)
        public, self.relin = seal.PublicKey(), seal.RelinKeys()
        keygen.create_public_key(public)
        keygen.create_relin_keys(self.relin)
        self.encoder = seal.CKKSEncoder(self.context)
        self.encryptor = seal.Encryptor(self.context, public)
        self.decryptor = seal.Decryptor(self.context, keygen.secret_key())
        self.evaluator = seal.Evaluator(self.context)

    def encrypt(self, values: list[float]) -> seal.Ciphertext:
        """Encodes and encrypts."""
        plain, encrypted = seal.Plaintext(), seal.Ciphertext()
        self.encoder.encode(values, self.scale, plain)
        self.encryptor.encrypt(plain, encrypted)
        return encrypted

    def decrypt(self, encrypted: seal.Ciphertext) -> list[float]:
        """Decrypts and decodes."""
        plain = seal.Plaintext()
        self.decryptor.decrypt(encrypted, plain)
        return self.encoder.decode_double(plain)

    def weighted_sum(self, inputs: list[seal.Ciphertext], row: Row, bias: float) -> seal.Ciphertext:
        """`sum of weight * input + bias`, rescaled once."""
        first = inputs[0]
        at, target = first.parms_id(), self.scale * self.primes[first.coeff_modulus_size() - 1]
        weight_scale = target / first.scale
        plain, product, total = seal.Plaintext(), seal.Ciphertext(), seal.Ciphertext()
        for count, (index, weight) in enumerate(row):
            self.encoder.encode(weight, at, weight_scale, plain)
            if count == 0:
                self.evaluator.multiply_plain(inputs[index], plain, total)
            else:
                self.evaluator.multiply_plain(inputs[index], plain, product)
                self.evaluator.add_inplace(total, product)
        self.encoder.encode(bias, at, total.scale, plain)
        self.evaluator.add_plain_inplace(total, plain)
        self.evaluator.rescale_to_next_inplace(total)
        return total

    def square_all(self, inputs: list[seal.Ciphertext]) -> None:
        """Squares in place."""
        for encrypted in inputs:
            self.evaluator.square_inplace(encrypted)
            self.evaluator.relinearize_inplace(encrypted, self.relin)
            self.evaluator.rescale_to_next_inplace(encrypted)


def network(folder: str, batch: int, threads: int, runs: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """Encrypts a batch, evaluates it once, decrypts to the file `logits`. CPU seconds of each stage."""
    if (threads, runs) != (1, 1):
        raise ValueError("calls from Python run one at a time, and once is long enough")
    source = Path(folder)

    def read(name: str, *shape: int) -> Any:
        return numpy.fromfile(source / name, "<f8").reshape(shape)

    images = read("images", SIDE * SIDE, batch)
    conv, conv_bias = read("conv", MAPS, KERNEL * KERNEL), read("conv_bias", MAPS)
    dense1, bias1 = read("dense1", HIDDEN, MAPS * OUT * OUT), read("bias1", HIDDEN)
    dense2, bias2 = read("dense2", CLASSES, HIDDEN), read("bias2", CLASSES)
    runner = Runner(**parameters)
    stages = []
    pixels = images.tolist()
    with Stopwatch() as watch:
        values = [runner.encrypt(pixel) for pixel in pixels]
    encrypt_s = watch.seconds
    with Stopwatch() as watch:
        values = [
            runner.weighted_sum(values, [(pixel, conv[m, w]) for pixel, w in place], conv_bias[m])
            for m in range(MAPS)
            for place in taps()
        ]
    stages.append(("conv", watch.seconds))
    with Stopwatch() as watch:
        runner.square_all(values)
    stages.append(("square1", watch.seconds))
    with Stopwatch() as watch:
        values = [runner.weighted_sum(values, list(enumerate(row)), b) for row, b in zip(dense1, bias1, strict=True)]
    stages.append(("dense1", watch.seconds))
    with Stopwatch() as watch:
        runner.square_all(values)
    stages.append(("square2", watch.seconds))
    with Stopwatch() as watch:
        values = [runner.weighted_sum(values, list(enumerate(row)), b) for row, b in zip(dense2, bias2, strict=True)]
    stages.append(("dense2", watch.seconds))
    with Stopwatch() as watch:
        logits = [runner.decrypt(value)[:batch] for value in values]
    numpy.array(logits).astype("<f8").tofile(source / "logits")
    return {
        "parameters": f"N = {parameters['degree']}, {parameters['bits']}, scale 2^{parameters['scale_bits']}",
        "encrypt_s": encrypt_s,
        "runs": 1,
        "stages_s": stages,
        "server_s": sum(seconds for _, seconds in stages),
        "decrypt_s": watch.seconds,
        "clock": "process CPU time",
        "peak_mib": peak_mib(),
    }

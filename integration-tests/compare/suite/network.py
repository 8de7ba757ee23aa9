"""The CryptoNets network on a full batch, one image per slot: inputs, the clear computation, and who runs it.

Layers (Gilad-Bachrach et al., CryptoNets, ICML 2016, with its linear layers merged): convolution 5x5, stride 2, padding 1,
28x28 to 5 maps of 13x13; square; dense 845-100; square; dense 100-10."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy
from numpy.typing import NDArray

from suite.library import Library

Matrix = NDArray[numpy.float64]

SIDE, KERNEL, STRIDE, PADDING, MAPS = 28, 5, 2, 1, 5
OUT = (SIDE + 2 * PADDING - KERNEL) // STRIDE + 1
HIDDEN, CLASSES = 100, 10
# Largest accepted error of a logit, relative to the range of logits.
TOLERANCE = 1e-3
SEED = 20_260_103


def taps() -> list[list[tuple[int, int]]]:
    """For each place of a map: the pixels under the kernel and the weight that meets each; none beyond the border."""
    places = []
    for row in range(OUT):
        for column in range(OUT):
            place = []
            for u in range(KERNEL):
                for v in range(KERNEL):
                    y, x = row * STRIDE - PADDING + u, column * STRIDE - PADDING + v
                    if 0 <= y < SIDE and 0 <= x < SIDE:
                        place.append((y * SIDE + x, u * KERNEL + v))
            places.append(place)
    return places


class Network:
    """Random weights, scaled so that no layer's output exceeds 1 on the batch, as a trained and normalised network's do."""

    def __init__(self, images: Matrix, seed: int) -> None:
        random = numpy.random.default_rng(seed)
        self.images = images
        self.conv = random.normal(size=(MAPS, KERNEL * KERNEL))
        self.conv_bias = random.normal(scale=0.1, size=MAPS)
        self.dense1 = random.normal(size=(HIDDEN, MAPS * OUT * OUT))
        self.bias1 = random.normal(scale=0.1, size=HIDDEN)
        self.dense2 = random.normal(size=(CLASSES, HIDDEN))
        self.bias2 = random.normal(scale=0.1, size=CLASSES)
        maps = self._convolve()
        self.conv /= (largest := numpy.abs(maps).max())
        self.conv_bias /= largest
        hidden = self.dense1 @ (maps / largest) ** 2 + self.bias1[:, None]
        self.dense1 /= (largest := numpy.abs(hidden).max())
        self.bias1 /= largest
        logits = self.dense2 @ (hidden / largest) ** 2 + self.bias2[:, None]
        self.dense2 /= (largest := numpy.abs(logits).max())
        self.bias2 /= largest
        self.logits = logits / largest

    def _convolve(self) -> Matrix:
        maps = numpy.empty((MAPS, OUT * OUT, self.images.shape[1]))
        for place, under in enumerate(taps()):
            pixels, weights = zip(*under, strict=True)
            maps[:, place] = self.conv[:, weights] @ self.images[list(pixels)] + self.conv_bias[:, None]
        return maps.reshape(MAPS * OUT * OUT, -1)

    def save(self, folder: Path) -> None:
        """Little-endian doubles, row by row; images have one row per pixel."""
        for name in ("images", "conv", "conv_bias", "dense1", "bias1", "dense2", "bias2"):
            getattr(self, name).astype("<f8").tofile(folder / name)


def run(library: Library, batch: int, threads: int, runs: int, parameters: dict[str, Any]) -> dict[str, Any]:
    """One batch through one library, compared with the clear logits."""
    random = numpy.random.default_rng(SEED)
    # A written character covers about a fifth of its square.
    images = random.uniform(0, 1, (SIDE * SIDE, batch)) * (random.uniform(0, 1, (SIDE * SIDE, batch)) < 0.2)
    network = Network(images, SEED)
    with tempfile.TemporaryDirectory() as folder:
        network.save(Path(folder))
        result = library.request(
            "network", folder=folder, batch=batch, threads=threads, runs=runs, parameters=parameters
        )
        logits = numpy.fromfile(Path(folder) / "logits", "<f8").reshape(CLASSES, batch)
    error = float(numpy.abs(logits - network.logits).max() / (network.logits.max() - network.logits.min()))
    if error > TOLERANCE:
        raise AssertionError(f"{library.key}: logits are off by {error} of their range")
    return result | {"batch": batch, "threads": threads, "relative_error": error}

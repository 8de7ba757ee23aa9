#!/usr/bin/env python3
"""Trains the network of spiking.toml as it will spike: `python3 spiking.py MNIST_FOLDER OUT.safetensors` (needs numpy; three minutes of one core).

The folder holds MNIST's four files, unpacked. Forwards, neurons integrate and fire over two time steps with integer weights, as
`party model quantise --spiking 2 --threshold-bits 6` will make them; backwards, rounding counts as nothing and a spike as a triangle
(surrogate gradient: Neftci, Mostafa and Zenke, IEEE Signal Processing Magazine 36(6), 2019). Weights are pruned to the 48 largest of a neuron on
the way, so that its sum has a small range. The weights are written with PyTorch's names.
"""
import json
import struct
import sys

import numpy as np

STEPS, THRESHOLD, HIDDEN, KEPT, EPOCHS, BATCH, CALIBRATION = 2, 2.0**6, 100, 48, 40, 256, 2000


def read(name):
    with open(f"{sys.argv[1]}/{name}", "rb") as file:
        data = file.read()
    images = data[2:4] == b"\x08\x03"
    return np.frombuffer(data[16 if images else 8 :], np.uint8).reshape((-1, 784) if images else -1)


def robust(values, share):
    """The value that `share` of a thousand are not above."""
    return np.sort(values, axis=0)[(len(values) - 1) * share // 1000]


random = np.random.default_rng(1)
images = read("train-images-idx3-ubyte").astype(np.float32) / np.float32(255)
labels = read("train-labels-idx1-ubyte").astype(int)
test = read("t10k-images-idx3-ubyte").astype(np.float32) / np.float32(255)
truth = read("t10k-labels-idx1-ubyte").astype(int)
gain = robust(images[:CALIBRATION], 998)


def spikes(x):
    """At step k, whether a pixel reaches its threshold of that rank."""
    return [((x >= gain * (k + 0.5) / STEPS) & (gain > 0)).astype(np.uint8) for k in range(STEPS)]


w1 = (random.standard_normal((784, HIDDEN)) * np.sqrt(2.0 / 100)).astype(np.float32) * 0.3
b1 = np.zeros(HIDDEN, np.float32)
w2 = (random.standard_normal((HIDDEN, 10)) * np.sqrt(1.0 / HIDDEN)).astype(np.float32)
b2 = np.zeros(10, np.float32)
parameters = [w1, b1, w2, b2]


def full_rates():
    """What a neuron that fires at every step stands for."""
    reached = images[:CALIBRATION] @ w1 + b1
    return np.maximum(np.maximum(robust(np.maximum(reached, 0), 998), np.abs(reached).max(0) / 16), 1e-3)


def forward(arriving, full):
    scale = THRESHOLD / full
    weights, current = np.round(w1 * gain[:, None] * scale), np.round(b1 * scale)
    potential, fired, potentials = np.full((len(arriving[0]), HIDDEN), THRESHOLD / 2, np.float32), 0, []
    for step in range(STEPS):
        potential = potential + arriving[step].astype(np.float32) @ weights + current
        potentials.append(potential)
        spike = (potential >= THRESHOLD).astype(np.float32)
        potential = potential - THRESHOLD * spike
        fired = fired + spike
    rates = fired / STEPS * full
    return potentials, rates, rates @ w2 + b2, scale


def accuracy(arriving, classes, full):
    right = 0
    for start in range(0, len(classes), 5000):
        part = slice(start, start + 5000)
        right += (forward([s[part] for s in arriving], full)[2].argmax(1) == classes[part]).sum()
    return 100 * right / len(classes)


training, testing = spikes(images), spikes(test)
first, second, updates = [np.zeros_like(p) for p in parameters], [np.zeros_like(p) for p in parameters], 0
# How often a pixel is bright: a weight that nothing excites is of no use.
bright = np.sqrt((images[:5000] > 0.3).mean(0) + 1e-4)
for epoch in range(EPOCHS):
    keep = int(KEPT + (784 - KEPT) * max(0, 1 - (epoch + 1) / (EPOCHS * 0.4)) ** 2)
    importance = np.abs(w1) * gain[:, None] * bright[:, None]
    mask = (importance >= np.sort(importance, axis=0)[-keep]).astype(np.float32)
    w1 *= mask
    rate = 1e-3 * (1 + np.cos(np.pi * epoch / EPOCHS)) + 2e-5
    order = random.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        if start % (BATCH * 40) == 0:
            full = full_rates()
        arriving = [s[chosen] for s in training]
        potentials, rates, scores, scale = forward(arriving, full)
        wrong = np.exp(scores - scores.max(1, keepdims=True))
        wrong /= wrong.sum(1, keepdims=True)
        wrong[np.arange(BATCH), labels[chosen]] -= 1
        wrong /= BATCH
        back, to_weights, to_current = np.zeros_like(rates), np.zeros_like(w1), np.zeros_like(b1)
        for step in reversed(range(STEPS)):
            slope = np.maximum(0, 1 - np.abs(potentials[step] - THRESHOLD) / THRESHOLD) / THRESHOLD
            back = back * (1 - THRESHOLD * slope) + wrong @ w2.T * full / STEPS * slope
            to_weights += arriving[step].astype(np.float32).T @ back
            to_current += back.sum(0)
        gradients = [to_weights * gain[:, None] * scale * mask, to_current * scale, rates.T @ wrong, wrong.sum(0)]
        updates += 1
        for index, (parameter, gradient) in enumerate(zip(parameters, gradients)):
            first[index] = 0.9 * first[index] + 0.1 * gradient
            second[index] = 0.999 * second[index] + 0.001 * gradient * gradient
            mean, spread = first[index] / (1 - 0.9**updates), second[index] / (1 - 0.999**updates)
            parameter -= rate * mean / (np.sqrt(spread) + 1e-8)
        w1 *= mask
    full = full_rates()
    print(f"epoch {epoch + 1}/{EPOCHS}: {keep} weights a neuron, test accuracy {accuracy(testing, truth, full):.2f} %", flush=True)

header, blob = {}, b""
for name, value in {"1.weight": w1.T, "1.bias": b1, "3.weight": w2.T, "3.bias": b2}.items():
    value = np.ascontiguousarray(value, np.float32)
    header[name] = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [len(blob), len(blob) + value.nbytes]}
    blob += value.tobytes()
text = json.dumps(header).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[2], "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + blob)

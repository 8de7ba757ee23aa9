"""Runs an ONNX file: infer.py MODEL INPUT OUTPUT, where INPUT and OUTPUT hold little-endian float32, row by row."""

import sys

import numpy
import onnxruntime

model, source, target = sys.argv[1:]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
(entry,) = session.get_inputs()
batch = numpy.fromfile(source, dtype="<f4").reshape([-1, *entry.shape[1:]])
(result,) = session.run(None, {entry.name: batch})
result.astype("<f4").tofile(target)

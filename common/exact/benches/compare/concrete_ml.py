"""The network of tests/wdbc.rs in Concrete ML: accuracy, keys, and time of a decision, on the same patients as the bench `decision`.

    python3 common/exact/benches/compare/concrete_ml.py N_BITS DECISIONS

Run from the repository's root, with the packages of requirements.txt. The weights are those of tests/data/wdbc.json: quantised after training,
with rounding to n_bits + 1, Concrete ML's usual way for a network that was trained in floating point. `OMP_NUM_THREADS` sets its threads.
"""

import csv
import json
import statistics
import sys
import time

import numpy as np
import torch
from concrete.ml.torch.compile import compile_torch_model

n_bits, decisions = int(sys.argv[1]), int(sys.argv[2])
file = json.load(open("common/exact/tests/data/wdbc.json"))
rows = []
for site in ["east", "south", "west"]:
    with open(f"configs/studies/breast-cancer/{site}.csv") as table:
        rows += [[float(value) for value in row] for row in list(csv.reader(table))[1:]]
rows = np.array(rows)
features = (rows[:, 1:31] - np.array(file["mean"])) / np.array(file["deviation"])
malignant, test = rows[:, 31] == 0, rows[:, 0] % 4 == 0

parameters = torch.tensor(file["parameters"], dtype=torch.float32)
network = torch.nn.Sequential(torch.nn.Linear(30, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
with torch.no_grad():
    network[0].weight.copy_(parameters[:480].reshape(16, 30))
    network[0].bias.copy_(parameters[480:496])
    network[2].weight.copy_(parameters[496:512].reshape(1, 16))
    network[2].bias.copy_(parameters[512:])

logits = network(torch.tensor(features[test], dtype=torch.float32)).detach().numpy()[:, 0]
print(f"in floating point {np.mean((logits >= 0) == malignant[test]):.4f} of {test.sum()} test patients")
start = time.perf_counter()
module = compile_torch_model(network, features[~test], n_bits=n_bits, rounding_threshold_bits=n_bits + 1)
print(f"compiled in {time.perf_counter() - start:.2f} s, widest integer {module.fhe_circuit.graph.maximum_integer_bit_width()} bits")
start = time.perf_counter()
module.fhe_circuit.keygen()
print(f"keys made in {time.perf_counter() - start:.2f} s")
print(f"evaluation keys {len(module.fhe_circuit.client.evaluation_keys.serialize())} bytes")
clear = module.forward(features[test], fhe="disable")[:, 0]
print(f"n_bits {n_bits}: {np.mean((clear >= 0) == malignant[test]):.4f} of the test patients")
wall, used, equal = [], [], 0
for row, expected in zip(features[test][:decisions], clear):
    quantised = module.quantize_input(row[None])
    encrypted = module.fhe_circuit.encrypt(quantised)
    start, before = time.perf_counter(), time.process_time()
    answer = module.fhe_circuit.run(encrypted)
    wall.append(time.perf_counter() - start)
    used.append(time.process_time() - before)
    found = module.dequantize_output(module.fhe_circuit.decrypt(answer))
    equal += int(np.ravel(found)[0] == expected)
show = lambda times: f"{statistics.median(times):.4f} s [{min(times):.4f} to {max(times):.4f}]"
print(f"a decision {show(wall)}, processors {show(used)}; {equal} of {decisions} equal the clear ones")

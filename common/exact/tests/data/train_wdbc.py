"""Trains the network of tests/wdbc.rs: 30 standardised features, 16 units with ReLU, the logit of a malignant tumour.

    python3 common/exact/tests/data/train_wdbc.py configs/studies/breast-cancer > common/exact/tests/data/wdbc.json

Needs scikit-learn. Patients whose number divides by 4 are for testing and not looked at here.
"""

import csv
import json
import sys

import numpy as np
from sklearn.neural_network import MLPClassifier

patients = []
for site in ["east", "south", "west"]:
    with open(f"{sys.argv[1]}/{site}.csv") as file:
        patients += [[float(value) for value in row] for row in list(csv.reader(file))[1:]]
patients = np.array([row for row in sorted(patients) if row[0] % 4 != 0])
features, malignant = patients[:, 1:31], patients[:, 31] == 0

mean, deviation = features.mean(axis=0), features.std(axis=0)
network = MLPClassifier((16,), activation="relu", solver="lbfgs", alpha=1.0, max_iter=2000, random_state=1)
network.fit((features - mean) / deviation, malignant)

parameters = []
for weights, biases in zip(network.coefs_, network.intercepts_):
    parameters += list(weights.T.ravel()) + list(biases)
short = lambda values: [float(f"{value:.7g}") for value in values]
json.dump({"mean": short(mean), "deviation": short(deviation), "parameters": short(parameters)}, sys.stdout)
print()

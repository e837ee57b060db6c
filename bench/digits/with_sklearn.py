"""The digits MLP from import to score, in scikit-learn."""

import json
import sys
import warnings

import numpy as np
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import StandardScaler

warnings.filterwarnings("ignore")  # twenty epochs are not convergence
rows = np.random.default_rng(0).permutation(1797)
pixels, digits = load_digits(return_X_y=True)
train, test = rows[:1437], rows[1437:]
scaler = StandardScaler().fit(pixels[train])
x = scaler.transform(pixels).astype(np.float32)

net = MLPClassifier((128, 64), batch_size=32, max_iter=20).fit(x[train], digits[train])
accuracy = net.score(x[test], digits[test])
json.dump({"accuracy": accuracy}, sys.stdout)

"""The digits MLP from import to score, in derin."""

import json
import sys

import numpy as np

import derin
from derin import nn

rows = np.random.default_rng(0).permutation(1797)
data = derin.data.load("digits", indices=(rows[:1437], [], rows[1437:]))
net = nn.Sequential(nn.Linear(128), nn.ReLU(), nn.Linear(64), nn.ReLU(), nn.Linear(10))
run = derin.fit(net, data, epochs=20, batch_size=32, optimizer=derin.optim.Adam(1e-3), progress=False)
accuracy = run.evaluate("test")["accuracy"]
json.dump({"accuracy": accuracy}, sys.stdout)

"""1,000 nets for digits by successive halving, 27 epochs at most, in derin: prints the best validation accuracy.

Its first argument is the seed of all that is drawn: the rows that judge, the values, the weights. The peers' as well.
The second one changes the weights, which a search gives to all of its trials alike; a peer's have each their own.
"""

import json
import sys

import numpy as np

import derin
from derin import nn, optim

seed, weights = map(int, sys.argv[1:])
rows = np.random.default_rng(seed).permutation(1797)
data = derin.load_data("digits", indices=(rows[:1437], rows[1437:], []))
net = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Dropout(derin.uniform(0.0, 0.5)), nn.Linear(10))
space = derin.Experiment(
    net, optimizer=optim.AdamW(derin.log(1e-4, 1e-1), weight_decay=derin.log(1e-5, 1e-1)), epochs=27, batch_size=64,
    metrics=("accuracy",), seed=seed + 1000 * weights,
)  # fmt: skip
study = derin.tune(space, data, trials=1000, pruner="asha", seed=seed, progress=False)
print(json.dumps({"score": study.best.score, "epochs": sum(t.epochs for t in study.trials)}))

"""1,000 nets for digits by successive halving, 27 epochs at most, in derin: prints the best validation accuracy."""

import json

import derin
from derin import nn, optim

data = derin.load_data("digits", valid=0.2, test=0)
net = nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Dropout(derin.uniform(0.0, 0.5)), nn.Linear(10))
space = derin.Experiment(
    net, optimizer=optim.AdamW(derin.log(1e-4, 1e-1), weight_decay=derin.log(1e-5, 1e-1)), epochs=27, batch_size=64,
    metrics=("accuracy",),
)  # fmt: skip
study = derin.tune(space, data, trials=1000, pruner="asha", progress=False)
print(json.dumps({"score": study.best.score, "epochs": sum(t.epochs for t in study.trials)}))

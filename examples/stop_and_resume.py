"""Stop a run, come back to it in another process, and end in the very bits of a run that was never stopped.

python examples/stop_and_resume.py
"""

import tempfile
from pathlib import Path

import numpy as np

import derin
from derin import nn, optim

net = nn.Sequential(nn.Linear(32), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.2), nn.Linear(3))
experiment = derin.Experiment(
    net, epochs=30, batch_size=16, optimizer=optim.AdamW(5e-3), schedule=optim.CosineAnnealingLR()
)


def at_ten(report):
    """A callback sees every epoch's numbers, and may stop the run."""
    return "stop" if report.epoch == 10 else None


if __name__ == "__main__":
    folder = Path(tempfile.mkdtemp())
    wine = derin.data.load("wine")
    whole = experiment.fit(wine, progress=False)
    experiment.fit(wine, out=folder / "wine", callbacks=[at_ten], progress=False)

    run = derin.load(folder / "wine")  # anywhere, any time later
    print(run)
    run = run.resume(progress=False)
    print(run)
    same = all(np.array_equal(run.params[name], whole.params[name]) for name in whole.params)
    print("the same weights to the bit:", same)

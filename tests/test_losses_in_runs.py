"""Which losses a run takes for which target, and what it says about the others."""

import numpy as np
import pytest

from derin import data, nn, optim
from derin.engine import Experiment, fit
from derin.engine.task import task_of
from derin.errors import SpecError

ROWS = np.random.default_rng(0).standard_normal((60, 2)).astype(np.float32)
SETS = {
    "number": data.load((ROWS, ROWS[:, 0] + 1), valid=0, test=0),
    "logit": data.load((ROWS, ROWS[:, 0] > 0), valid=0, test=0),
    "classes": data.load((ROWS, np.digitize(ROWS[:, 0], [-0.5, 0.5])), valid=0, test=0),
}
FIT = {
    "number": (nn.MSELoss(half=True), nn.RMSELoss(), nn.L1Loss(), nn.HuberLoss(), nn.SmoothL1Loss(),
               nn.QuantileLoss(0.9)),
    "logit": (nn.BCEWithLogitsLoss(), nn.SigmoidFocalLoss(), nn.HingeLoss(), nn.SoftMarginLoss()),
    "classes": (nn.CrossEntropyLoss(), nn.FocalLoss(), nn.MultiMarginLoss(), nn.NLLLoss()),
}  # fmt: skip
WIDTH = {"number": 1, "logit": 1, "classes": 3}


def task(kind, loss):
    return task_of(Experiment(nn.Linear(WIDTH[kind]), loss), SETS[kind].schema, SETS[kind].train.x, None)


@pytest.mark.parametrize("kind", FIT)
def test_a_run_takes_what_fits(kind):
    for loss in FIT[kind]:
        assert task(kind, loss).losses == (loss,)


@pytest.mark.parametrize("kind", FIT)
def test_a_run_refuses_what_does_not_fit(kind):
    best = {"number": "MSELoss", "logit": "BCEWithLogitsLoss", "classes": "CrossEntropyLoss"}[kind]
    for other, losses in FIT.items():
        for loss in losses if other != kind else ():
            with pytest.raises(SpecError, match=f"{type(loss).__name__} does not fit the target .*; {best} does"):
                task(kind, loss)


@pytest.mark.parametrize(
    "kind, loss, message",
    [
        ("number", nn.MSELoss(reduction="sum"), r"MSELoss\(reduction='sum'\) is for .* a run minimises the mean"),
        ("number", nn.GaussianNLLLoss(), "GaussianNLLLoss cannot train a run: a run's net gives a number no variance"),
        ("number", nn.PoissonNLLLoss(), "PoissonNLLLoss cannot train a run: a run standardises numbers"),
        ("logit", nn.BCELoss(), "nets put out logits in a run. For the target .* BCEWithLogitsLoss fits"),
        ("classes", nn.KLDivLoss(), "a target of a run has labels, not probabilities"),
        ("classes", nn.TripletMarginLoss(), "it takes anchor, positive, negative. .* CrossEntropyLoss fits"),
        ("classes", nn.CTCLoss(), "it takes log_probs, targets, input_lengths, target_lengths"),
        ("classes", nn.MultiLabelSoftMarginLoss(), "a target of a run has one class for each row"),
        ("logit", nn.HingeEmbeddingLoss(), "it takes distances between two examples"),
    ],
)
def test_a_run_says_why_it_cannot(kind, loss, message):
    with pytest.raises(SpecError, match=message):
        task(kind, loss)


@pytest.mark.parametrize(
    "kind, loss", [("number", nn.RMSELoss()), ("logit", nn.HingeLoss()), ("classes", nn.MultiMarginLoss())]
)
def test_a_run_learns_by_it(kind, loss):
    net = nn.Sequential(nn.Linear(WIDTH[kind]))
    run = fit(net, SETS[kind], loss=loss, epochs=25, batch_size=16, optimizer=optim.Adam(0.05), progress=False)
    name, good = ("r2", 0.9) if kind == "number" else ("accuracy", 0.85)
    assert run.evaluate("train")[name] > good
    assert run.history[-1]["loss"] < 0.5 * run.history[0]["loss"]

"""Is each unseen case sick of what it says? It is trained with its cause and with the cause removed; healthy ones stand
beside scikit-learn's gradient boosting. derin.diagnose is not asked.

    PYTHONPATH=src python tests/sick/removed.py [--set unseen|strangers] [NAME ...]
"""

from __future__ import annotations

import argparse
import sys
import warnings
from typing import Any

import numpy as np
from cases import CASES, HEALTHY

from derin.engine.predict import blocks


def said(run: Any) -> str:
    """The validation loss after the first, the best and the last epoch, and both parts as the run's weights see them."""
    valid = np.array([e["valid_loss"] for e in run.history])
    if not np.isfinite(valid).any():
        return f"no finite loss after {len(valid)} epochs"
    best = int(np.nanargmin(valid))
    text = f"valid {valid[0]:.3g}, best {valid[best]:.3g} in {best + 1}, last {valid[-1]:.3g} in {len(valid)}"
    parts = {name: run.evaluate(name) for name in ("train", "valid")}
    for metric in ("loss", "accuracy", "r2"):
        if metric in parts["train"]:
            text += f"; {metric} {parts['train'][metric]:.3f} / {parts['valid'][metric]:.3f}"
    return text + recalls(run)


def recalls(run: Any) -> str:
    """The share of each of two classes that is found, by which an imbalance is judged."""
    part, target = run.data.valid, run.schema.targets[0]
    if target.width != 1 or part.y.dtype.kind != "i":
        return ""
    said = np.concatenate([np.asarray(b) for b in blocks(run.task, run.params, run.state, part.x)]).ravel() > 0
    return f"; recalls {(~said[part.y == 0]).mean():.3f} and {said[part.y == 1].mean():.3f}"


def boosting(run: Any) -> str:
    """What gradient boosting reaches on the same rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    learn, judge = run.data.train, run.data.valid
    kind = HistGradientBoostingClassifier if learn.y.dtype.kind == "i" else HistGradientBoostingRegressor
    fitted = kind(max_iter=60, early_stopping=False).fit(learn.x.reshape(len(learn.x), -1), learn.y)
    return f"{fitted.score(judge.x.reshape(len(judge.x), -1), judge.y):.3f}, accuracy or r2"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=("unseen", "strangers"), default="unseen")
    parser.add_argument("parts", nargs="*", metavar="NAME")
    given = parser.parse_args(argv)
    parts = given.parts
    warnings.simplefilter("ignore")
    for case in CASES:
        if case.set != given.set or (parts and not any(p in case.name for p in parts)):
            continue
        run = case.train()
        print(f"{case.name} [{case.cause}]\n  as it is  {said(run)}", flush=True)
        if case.cause == HEALTHY:
            print(f"  boosting  {boosting(run)}", flush=True)
        else:
            print(f"  removed   {said(case.train(cured=True))}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])

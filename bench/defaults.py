"""How good is derin when nothing is chosen? Twelve sets, beside scikit-learn's MLP and boosted trees.

    PYTHONPATH=src python -m bench defaults --data ../shared/data                # the whole table
    PYTHONPATH=src python -m bench defaults --sets iris,wine --seeds 0,1 --peers-cache /tmp/peers.json

Every method gets the same rows: a fifth is the test part (stratified for classes, drawn by the seed), the rest is
for training, out of which derin takes its own validation part (15 %, its default). derin is told the source and the
target and nothing else.

* MLP: MLPClassifier / MLPRegressor with their defaults and max_iter=2000, which is enough for all (a net that did not
  converge is an error); numbers are imputed (median and indicator) and standardised, categories one-hot encoded, a
  number to be predicted is standardised.
* trees: HistGradientBoosting with its defaults; it is told which columns are categories.

The score is accuracy for classes and R2 for numbers. Scaled scores put the mean of the best method of a set at 1 and
the trivial predictor (most frequent class, mean) at 0. wine_quality is red and white together, the colour a column;
its marks are seven classes, as derin's rule for whole numbers has it. On some seeds boosted trees go astray there (a
class has five rows), so the average is also given without it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import finish, markdown
from bench.sets import BUNDLED, FILES, Set, read_set

TEST = 0.2
VALID = 0.15  # the default of derin.data.load
Scores = dict[str, float]


def split(data: Set, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that train and that test."""
    from sklearn.model_selection import train_test_split

    labels = data.y if data.task == "classes" else None
    rows = np.arange(len(data.y))
    rest, test = train_test_split(rows, test_size=TEST, stratify=labels, random_state=seed)
    return np.sort(rest), np.sort(test)


def score(data: Set, rows: np.ndarray, found: np.ndarray) -> Scores:
    """found: probabilities [n, classes] in the order of the codes, or numbers [n]"""
    from sklearn import metrics

    y = data.y[rows]
    if data.task == "number":
        return {"score": metrics.r2_score(y, found), "rmse": metrics.root_mean_squared_error(y, found)}
    classes = np.arange(found.shape[1])
    found = np.asarray(found, np.float64)
    found = found / found.sum(1, keepdims=True)
    loss = metrics.log_loss(y, found, labels=classes)
    out = {"score": float((found.argmax(1) == y).mean()), "log_loss": loss}
    present = len(np.unique(y)) == len(classes)
    if len(classes) == 2:
        out["auc"] = metrics.roc_auc_score(y, found[:, 1])
    elif present:
        out["auc"] = metrics.roc_auc_score(y, found, multi_class="ovr", labels=classes)
    return out


def trivial(data: Set, rest: np.ndarray, test: np.ndarray) -> Scores:
    """The most frequent class, or the mean."""
    if data.task == "number":
        return score(data, test, np.full(len(test), data.y[rest].mean()))
    shares = np.bincount(data.y[rest], minlength=data.y.max() + 1) / len(rest)
    return score(data, test, np.tile(shares, (len(test), 1)))


# -- the methods: (data, training rows, test rows, seed) -> scores


def with_derin(data: Set, rest: np.ndarray, test: np.ndarray, seed: int, epochs: int | None = None) -> Scores:
    """derin with no options but source and target; `indices` only makes the rows those of the others."""
    import derin
    from derin.engine.defaults import default_experiment

    labels = data.y[rest] if data.task == "classes" else None
    inner = derin.data.split_rows(len(rest), valid=VALID, test=0.0, labels=labels, seed=seed)
    loaded = derin.data.load(data.source, data.target, indices=(rest[inner.train], rest[inner.valid], test))
    experiment = default_experiment(loaded, net=None).replace(seed=seed)
    if epochs is not None:
        experiment = experiment.replace(epochs=epochs)
    run = experiment.fit(loaded, progress=False)
    rows = loaded.test.rows
    if not np.array_equal(rows, test):
        raise RuntimeError(f"{data.name}: derin's test part has other rows than the split.")
    found = np.asarray(run.predictor()(loaded.test.x))
    if data.task == "classes":
        found = _in_order_of_codes(data, loaded, found)
    return score(data, rows, found) | {"epochs": len(run.history)}


def _in_order_of_codes(data: Set, loaded: Any, found: np.ndarray) -> np.ndarray:
    ordered = np.zeros((len(found), data.y.max() + 1))
    for label in range(found.shape[1]):
        mine = loaded.train.rows[np.asarray(loaded.train.y) == label]
        if len(mine):
            ordered[:, data.y[mine[0]]] = found[:, label]
    return ordered


def with_mlp(data: Set, rest: np.ndarray, test: np.ndarray, seed: int) -> Scores:
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.impute import SimpleImputer
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = []
    if data.numbers.shape[1]:
        scaled = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler())
        scaled.fit(data.numbers[rest])
        columns.append(scaled.transform(data.numbers))
    if data.categories.shape[1]:
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(data.categories[rest])
        columns.append(one_hot.transform(data.categories))
    x = np.hstack(columns)
    if data.task == "classes":
        net: Any = MLPClassifier(max_iter=2000, random_state=seed)
    else:
        inner = MLPRegressor(max_iter=2000, random_state=seed)
        net = TransformedTargetRegressor(inner, transformer=StandardScaler())
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        net.fit(x[rest], data.y[rest])
    fitted = net if data.task == "classes" else net.regressor_
    return _score_estimator(data, net, x, test) | {"epochs": fitted.n_iter_}


def with_trees(data: Set, rest: np.ndarray, test: np.ndarray, seed: int) -> Scores:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.preprocessing import OrdinalEncoder

    columns, categories = [data.numbers], data.categories.shape[1]
    if categories:
        codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan, max_categories=250)
        columns.append(codes.fit(data.categories[rest]).transform(data.categories))
    x = np.hstack(columns)
    which = np.arange(x.shape[1]) >= data.numbers.shape[1] if categories else None
    kind = HistGradientBoostingClassifier if data.task == "classes" else HistGradientBoostingRegressor
    trees = kind(categorical_features=which, random_state=seed).fit(x[rest], data.y[rest])
    return _score_estimator(data, trees, x, test) | {"epochs": trees.n_iter_}


def _score_estimator(data: Set, estimator: Any, x: np.ndarray, test: np.ndarray) -> Scores:
    if data.task == "number":
        return score(data, test, estimator.predict(x[test]))
    found = np.zeros((len(test), data.y.max() + 1))
    found[:, estimator.classes_] = estimator.predict_proba(x[test])
    return score(data, test, found)


METHODS: dict[str, Callable[..., Scores]] = {"derin": with_derin, "MLP": with_mlp, "trees": with_trees}


# -- the table


class Cache:
    """Scores that are kept in a JSON file: those of the peers do not change while derin is tuned."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.scores: dict[str, Scores] = json.loads(path.read_text()) if path and path.exists() else {}

    def put(self, key: str, found: Scores) -> None:
        if self.path is None:
            return
        latest = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.scores = latest | self.scores | {key: found}
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps(self.scores, indent=1))
        os.replace(fresh, self.path)


def measure(
    sets: list[str],
    seeds: list[int],
    methods: list[str],
    folder: Path,
    cache: Cache,
    epochs: int | None,
    say: Callable[[str], None],
) -> dict[str, dict[str, list[Scores]]]:
    """results[set][method] = a dict of scores for each seed; "trivial" is a method too."""
    results: dict[str, dict[str, list[Scores]]] = {}
    for name in sets:
        try:
            data = read_set(name, folder)
        except FileNotFoundError as error:
            say(f"{name}: left out, {error}")
            continue
        results[name] = {method: [] for method in ["trivial", *methods]}
        for seed in seeds:
            rest, test = split(data, seed)
            results[name]["trivial"].append(trivial(data, rest, test))
            for method in methods:
                found = _one(method, data, rest, test, seed, cache, epochs)
                results[name][method].append(found)
        say(f"{name}: " + "; ".join(_brief(m, found) for m, found in results[name].items()))
    return results


def _one(
    method: str, data: Set, rest: np.ndarray, test: np.ndarray, seed: int, cache: Cache, epochs: int | None
) -> Scores:
    if method == "derin":
        begin = time.perf_counter()
        found = with_derin(data, rest, test, seed, epochs)
        return found | {"seconds": time.perf_counter() - begin}
    key = f"{data.name}/{seed}/{method}"
    if key not in cache.scores:
        begin = time.perf_counter()
        found = METHODS[method](data, rest, test, seed)
        found = {k: float(v) for k, v in found.items()} | {"seconds": time.perf_counter() - begin}
        cache.scores[key] = found
        cache.put(key, found)
    return cache.scores[key]


def _brief(method: str, found: list[Scores]) -> str:
    scores = np.array([f["score"] for f in found])
    extra = f" ({np.mean([f['seconds'] for f in found]):.1f} s)" if "seconds" in found[0] else ""
    return f"{method} {scores.mean():.4f} +- {scores.std():.4f}{extra}"


def scaled(results: dict[str, dict[str, list[Scores]]], method: str) -> dict[str, float]:
    """A method's mean scores, with the trivial predictor at 0 and the best method at 1."""
    out = {}
    for name, found in results.items():
        mean = {m: float(np.mean([f["score"] for f in runs])) for m, runs in found.items()}
        low, high = mean["trivial"], max(mean[m] for m in mean)
        out[name] = (mean[method] - low) / (high - low) if high > low else 0.0
    return out


def report(results: dict[str, dict[str, list[Scores]]], methods: list[str], seeds: list[int]) -> str:
    """The tables, in Markdown."""
    rows, more = [], []
    for name, found in results.items():
        values = {m: np.array([f["score"] for f in runs]) for m, runs in found.items()}
        best = max(methods, key=lambda m: values[m].mean())
        cells = [f"{100 * values[m].mean():.2f} ± {100 * values[m].std():.2f}" for m in methods]
        cells = [f"**{c}**" if m == best else c for m, c in zip(methods, cells, strict=True)]
        kind = "R2" if "rmse" in found["trivial"][0] else "accuracy"
        verdict = _verdict(values) if {"derin", "MLP"} <= set(methods) else ""
        rows.append([name, kind, f"{100 * values['trivial'].mean():.1f}", *cells, verdict])
        for other in ("log_loss", "auc", "rmse"):
            if other in found["trivial"][0] and name in results:
                means = [np.mean([f.get(other, np.nan) for f in found[m]]) for m in methods]
                more.append([name, other.replace("_", " "), *(f"{m:.4g}" for m in means)])
    averages = {m: list(scaled(results, m).values()) for m in methods}
    rows.append(["scaled, mean", "", "0", *(f"{np.mean(averages[m]):.3f}" for m in methods), ""])
    if "wine_quality" in results and len(results) > 1:
        others = {m: [v for name, v in scaled(results, m).items() if name != "wine_quality"] for m in methods}
        rows.append(["... without wine_quality", "", "0", *(f"{np.mean(others[m]):.3f}" for m in methods), ""])
    text = markdown(["set", "score", "trivial", *methods, "derin >= MLP"], rows)
    if {"derin", "MLP"} <= set(methods):
        wins = sum(row[-1].startswith("yes") for row in rows)
        text += f"\n\nderin is at least the MLP on {wins} of {len(results)} sets."
        text += f" Scores x 100, mean ± deviation over {len(seeds)} seeds."
    return text + "\n\n" + markdown(["set", "also", *methods], more)


def _verdict(values: dict[str, np.ndarray]) -> str:
    gap = values["derin"] - values["MLP"]
    word = "yes" if gap.mean() >= 0 else "no"
    return f"{word} ({100 * gap.mean():+.2f}, {int((gap >= 0).sum())} of {len(gap)} seeds)"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench defaults", description=__doc__.splitlines()[0])
    here = Path(__file__).resolve().parents[1]
    folder = os.environ.get("DERIN_SHARED_DATA", str(here.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=Path(folder), help="the folder that holds tabular/")
    parser.add_argument("--sets", default=",".join(BUNDLED + FILES))
    parser.add_argument("--seeds", default="0,1,2,3,4")
    parser.add_argument("--methods", default="derin,MLP,trees")
    parser.add_argument("--epochs", type=int, help="instead of derin's default")
    parser.add_argument("--peers-cache", type=Path, help="a JSON file that keeps the peers' scores")
    parser.add_argument("--json", type=Path, help="write every score to this file")
    parser.add_argument("--write", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(argv)
    sets, methods = given.sets.split(","), given.methods.split(",")
    seeds = [int(s) for s in given.seeds.split(",")]
    cache = Cache(given.peers_cache)
    results = measure(sets, seeds, methods, given.data, cache, given.epochs, lambda s: print(s, flush=True))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1, default=float))
    finish("defaults", "Good by default", report(results, methods, seeds), given.write)


if __name__ == "__main__":
    main()

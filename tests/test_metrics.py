"""Metrics against scikit-learn: random predictions, masked rows, ties, missing classes, one row."""

import math
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import example, given, settings
from hypothesis import strategies as st

import derin.spec as spec
from derin.engine.metrics import (
    F1,
    MAE,
    R2,
    ROCAUC,
    Accuracy,
    AveragePrecision,
    QuantileError,
    TopKAccuracy,
    metric,
    metric_names,
)
from derin.errors import ModelError, SpecError

seeds = st.integers(0, 2**31 - 1)
sizes = st.sampled_from([1, 2, 3, 10, 50, 200])
ARRAYS = {"confusion_matrix", "precision_per_class", "recall_per_class", "f1_per_class"}
CLASSES = [n for n in metric_names() if metric(n).kind == "classes"]
WEIGHED = ["accuracy", "f1", "roc_auc", "average_precision", "log_loss", "mae", "r2"]
NUMBERS = [n for n in metric_names() if metric(n).kind == "number"]


def classes_case(seed: int, n: int, classes: int, ties: str = "none", missing: bool = False):
    """Probabilities, classes and a 0/1 weight; rows of weight 0 hold nonsense, nan included."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(classes, 0.7), n).astype(np.float32)
    if ties == "some":
        p = np.round(p, 1) + np.float32(0.01)
        p /= p.sum(1, keepdims=True)
        p = np.round(p, 2).astype(np.float32)
    if ties == "all":
        p = np.full((n, classes), 1 / classes, np.float32)
    y = rng.integers(int(missing), classes, n).astype(np.int32)
    weight = (rng.random(n) < 0.7).astype(np.float32)
    weight[rng.integers(n)] = 1
    p[weight == 0] = rng.choice([np.nan, np.inf, 0.3])
    y[weight == 0] = rng.choice([-1, 0, 999])
    return p, y, weight


def numbers_case(seed: int, n: int, y_kind: str = "any"):
    rng = np.random.default_rng(seed)
    scale, offset = 10 ** rng.uniform(-3, 5), rng.choice([0.0, 3.0, -2000.0])
    y = {
        "any": rng.standard_normal(n) * scale + offset,
        "constant": np.full(n, 0.1),
        "zeros": rng.integers(0, 2, n) * 1.0,
    }[y_kind].astype(np.float32)
    p = (y + rng.standard_normal(n) * scale * rng.choice([0.0, 0.1, 1.0])).astype(np.float32)
    weight = (rng.random(n) < 0.7).astype(np.float32)
    weight[rng.integers(n)] = 1
    p[weight == 0] = rng.choice([np.nan, np.inf, 7.0])
    return p, y, weight


def by_sklearn(name: str, p: np.ndarray, y: np.ndarray) -> np.ndarray | float:
    """scikit-learn's word for it, on the rows that count; nan where it refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if p.ndim == 1:
            p, y = p.astype(np.float64), y.astype(np.float64)
            return {
                "mae": sk.mean_absolute_error,
                "mse": sk.mean_squared_error,
                "rmse": sk.root_mean_squared_error,
                "r2": sk.r2_score,
                "mape": sk.mean_absolute_percentage_error,
                "quantile_90": lambda y, p: np.quantile(np.abs(y - p), 0.9),
            }[name](y, p)
        classes = p.shape[1]
        labels, said = np.arange(classes), p.argmax(1)
        scores, curve_y = (p[:, 1], y) if classes == 2 else (p, np.eye(classes, dtype=int)[y])
        if name.startswith(("precision", "recall", "f1")):
            kind, _, average = name.partition("_")
            function = {"precision": sk.precision_score, "recall": sk.recall_score, "f1": sk.f1_score}[kind]
            if average == "per_class":
                return function(y, said, average=None, labels=labels, zero_division=0)
            if average == "binary":
                return function(y, said, average="binary", zero_division=0)
            return function(y, said, average=average or "macro", zero_division=0)
        if name == "roc_auc":
            if len(np.unique(y)) < classes:
                return np.nan
            return sk.roc_auc_score(y, scores) if classes == 2 else sk.roc_auc_score(curve_y, scores, average="macro")
        if name == "top_3_accuracy":
            return 1.0 if classes <= 3 else sk.top_k_accuracy_score(y, p, k=3, labels=labels)
        return {
            "accuracy": lambda: sk.accuracy_score(y, said),
            "balanced_accuracy": lambda: sk.balanced_accuracy_score(y, said),
            "confusion_matrix": lambda: sk.confusion_matrix(y, said, labels=labels),
            "average_precision": lambda: sk.average_precision_score(curve_y, scores),
            "log_loss": lambda: sk.log_loss(y, p, labels=labels),
            "brier": lambda: sk.brier_score_loss(curve_y if classes == 2 else y, scores, labels=labels),
        }[name]()


class TestAgainstScikitLearn:
    @pytest.mark.parametrize("name", CLASSES)
    @settings(max_examples=10, deadline=None)
    @given(seeds, sizes, st.sampled_from([2, 3, 5]), st.sampled_from(["none", "some", "all"]), st.booleans())
    @example(0, 1, 2, "none", False)
    @example(1, 200, 3, "none", True)
    @example(2, 200, 2, "all", False)
    @example(3, 50, 2, "some", True)
    def test_classes(self, name, seed, n, classes, ties, missing):
        if name.endswith("_binary"):
            classes = 2
        p, y, weight = classes_case(seed, n, classes, ties, missing)
        ours = jax.jit(metric(name))(p, y, weight)
        own = weight > 0
        np.testing.assert_allclose(ours, by_sklearn(name, p[own], y[own]), rtol=1e-5, atol=2e-6)

    @pytest.mark.parametrize("name", NUMBERS)
    @settings(max_examples=20, deadline=None)
    @given(seeds, sizes, st.sampled_from(["any", "constant", "zeros"]))
    @example(0, 1, "any")
    @example(1, 50, "constant")
    def test_numbers(self, name, seed, n, y_kind):
        p, y, weight = numbers_case(seed, n, y_kind)
        ours = jax.jit(metric(name))(p, y, weight)
        own = weight > 0
        with np.errstate(all="ignore"):
            want = by_sklearn(name, p[own], y[own])
        scale = max(1.0, abs(want)) if name == "r2" else max(abs(want), 1e-30)  # r2: 1 - a large number
        np.testing.assert_allclose(ours / scale, want / scale, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("name", ["roc_auc", "average_precision", "mse", "r2"])
    def test_a_hundred_thousand_rows(self, name):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 2, 100_000)
        score = np.clip(0.3 * y + 0.7 * rng.random(y.size), 0, 1).astype(np.float32)
        if metric(name).kind == "classes":
            p = np.stack([1 - score, score], 1)
            np.testing.assert_allclose(metric(name)(p, y), by_sklearn(name, p, y), rtol=1e-5)
        else:
            np.testing.assert_allclose(metric(name)(score, y), by_sklearn(name, score, y), rtol=1e-5)

    @pytest.mark.parametrize("name", ["accuracy", "f1", "roc_auc", "average_precision", "log_loss", "mae", "r2"])
    def test_weights_other_than_0_and_1(self, name):
        rng = np.random.default_rng(1)
        p, y, _ = classes_case(1, 60, 2, "some") if metric(name).kind == "classes" else numbers_case(1, 60)
        p = np.where(np.isfinite(p), p, 0.5).astype(np.float32)
        y = np.clip(y, 0, 1) if p.ndim == 2 else y
        weight = rng.uniform(0.1, 3, 60).astype(np.float32)
        function = {
            "accuracy": lambda: sk.accuracy_score(y, p.argmax(1), sample_weight=weight),
            "f1": lambda: sk.f1_score(y, p.argmax(1), average="macro", sample_weight=weight),
            "roc_auc": lambda: sk.roc_auc_score(y, p[:, 1], sample_weight=weight),
            "average_precision": lambda: sk.average_precision_score(y, p[:, 1], sample_weight=weight),
            "log_loss": lambda: sk.log_loss(y, p / p.sum(1, keepdims=True), sample_weight=weight),
            "mae": lambda: sk.mean_absolute_error(y, p, sample_weight=weight),
            "r2": lambda: sk.r2_score(y, p, sample_weight=weight),
        }[name]
        q = p / p.sum(1, keepdims=True) if name == "log_loss" else p
        np.testing.assert_allclose(metric(name)(q, y, weight), function(), rtol=2e-5)


class TestEveryMetric:
    @pytest.mark.parametrize("name", metric_names())
    def test_vmap_is_a_loop(self, name):
        make = (
            (lambda s: classes_case(s, 20, 2, "some"))
            if metric(name).kind == "classes"
            else (lambda s: numbers_case(s, 20))
        )
        cases = [make(s) for s in range(4)]
        together = jax.vmap(metric(name))(*map(np.stack, zip(*cases, strict=True)))
        for i, case in enumerate(cases):
            np.testing.assert_allclose(together[i], metric(name)(*case), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", metric_names())
    def test_name_shape_and_file(self, name):
        found = metric(name)
        assert found.name == name and metric(found) is found
        assert found.scalar == (name not in ARRAYS)
        assert spec.from_json(spec.to_json(found)) == found
        case = classes_case(0, 9, 2) if found.kind == "classes" else numbers_case(0, 9)
        assert (found(*case).ndim == 0) == found.scalar
        assert found(*case).dtype == jnp.float32

    @pytest.mark.parametrize("name", sorted({*metric_names()} - ARRAYS))
    def test_nothing_scores_nan(self, name):
        shape = (0, 2) if metric(name).kind == "classes" else (0,)
        ratio_of_counts = name.endswith(("_micro", "_binary")) or name == "average_precision"  # 0 / 0 is 0
        got = float(metric(name)(np.zeros(shape), np.zeros(0, int)))
        assert got == 0 if ratio_of_counts else math.isnan(got)
        assert not math.isnan(float(metric(name)(np.full((2, *shape[1:]), 0.5), np.array([0, 1]))))

    @pytest.mark.parametrize("name", metric_names())
    def test_a_prediction_that_is_not_finite_scores_nan(self, name):
        p = np.full((4, 2) if metric(name).kind == "classes" else 4, 0.5)
        p[2] = np.nan
        assert np.isnan(metric(name)(p, np.array([0, 1, 1, 0]))).all()

    @pytest.mark.parametrize("name", sorted({*metric_names()} - ARRAYS))
    def test_the_better_side(self, name):
        y = np.array([0, 1, 1, 0, 1, 2, 2, 0]) if not name.endswith("_binary") else np.array([0, 1, 1, 0])
        if metric(name).kind == "classes":
            classes = y.max() + 1
            right = 0.9 * np.eye(classes)[y] + 0.1 / classes
            wrong = np.roll(right, 1, axis=1)
            wrong = np.concatenate([wrong, np.zeros((len(y), 1))], 1) if name == "top_3_accuracy" else wrong
            if name == "top_3_accuracy":
                wrong[:, :3], right = [0.3, 0.2, 0.4], np.concatenate([right, np.zeros((len(y), 1))], 1)
                wrong[np.arange(len(y)), y] = -1.0
        else:
            y = y + 1.0
            right, wrong = y + 0.1, y + np.arange(len(y))
        good, bad = metric(name)(right, y), metric(name)(wrong, y)
        assert (good > bad) == metric(name).greater_is_better and good != bad


class TestUndefined:
    def test_auc_of_one_class(self):
        p = np.array([[0.3, 0.7], [0.6, 0.4]], np.float32)
        assert math.isnan(ROCAUC()(p, np.array([1, 1])))
        assert math.isnan(ROCAUC()(p, np.array([0, 1]), np.array([1.0, 0.0])))  # the other one is masked
        assert ROCAUC()(p, np.array([0, 1])) == 0.0

    def test_average_precision_without_the_class_is_0(self):
        assert AveragePrecision()(np.array([[0.3, 0.7]]), np.array([0])) == 0

    def test_r2(self):
        assert math.isnan(R2()(np.array([1.0]), np.array([1.0])))
        assert math.isnan(R2()(np.ones(3), np.ones(3), np.array([1.0, 0, 0])))
        assert R2()(np.full(3, 0.1), np.full(3, 0.1)) == 1
        assert R2()(np.full(3, 0.2), np.full(3, 0.1)) == 0


class TestMessages:
    @pytest.mark.parametrize(
        "name, words",
        [
            ("acuracy", "no metric is called 'acuracy'. Nearest: accuracy"),
            ("f1_per_clas", "Nearest: f1_per_class"),
            ("rms", "Nearest: rmse"),
            ("ROC_AUC", "Nearest: roc_auc"),
            ("top_0_accuracy", "TopKAccuracy.k must be 1 or more, got 0"),
            ("quantile_900", r"QuantileError.q must be in [0, 1], got 9.0"),
        ],
    )
    def test_names(self, name, words):
        with pytest.raises(SpecError) as said:
            metric(name)
        assert words in str(said.value)

    def test_shapes(self):
        with pytest.raises(ModelError, match=r"accuracy needs \[n, classes\] .*got \(3,\), \(3,\)"):
            Accuracy()(np.zeros(3), np.zeros(3, int))
        with pytest.raises(ModelError, match=r"mae needs \[n\] numbers.*got \(3, 1\)"):
            MAE()(np.zeros((3, 1)), np.zeros(3))  # never a silent [3, 3]
        with pytest.raises(ModelError, match=r"f1_binary is for two classes, there are 3. Use f1 \(macro\)"):
            F1(average="binary")(np.zeros((4, 3)), np.zeros(4, int))

    def test_average(self):
        with pytest.raises(SpecError, match=r"F1.average must be one of 'macro'"):
            F1(average="samples")


def test_parameters_in_names():
    assert metric("top_7_accuracy") == TopKAccuracy(7)
    assert metric("quantile_50") == QuantileError(0.5) and metric("quantile_99.5").name == "quantile_99.5"
    assert metric("quantile_29").name == "quantile_29"
    assert metric("f1_per_class") == F1(average="none")


def test_course_numbers():
    """S0.09, S0.11, S0.12: errors of 2, 2 and 0. S0.28: three rows of binary cross-entropy."""
    y, said = np.array([10.0, 20, 30]), np.array([12.0, 18, 30])
    found = [float(metric(m)(said, y)) for m in ("mse", "rmse", "mae")]
    np.testing.assert_allclose(found, [8 / 3, 1.63299, 4 / 3], atol=1e-5)
    p = np.array([0.9, 0.7, 0.3])
    np.testing.assert_allclose(metric("log_loss")(np.stack([1 - p, p], 1), np.array([1, 1, 0])), 0.27290, atol=1e-5)

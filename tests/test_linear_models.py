"""Linear, logistic and softmax regression against scikit-learn, in both units; the course's numbers; messages."""

import numpy as np
import pytest
from sklearn import datasets, linear_model
from sklearn.preprocessing import StandardScaler

from derin import data, spec
from derin.data.warning import DataWarning
from derin.errors import DataError, SpecError
from derin.models import LinearRegression, LogisticRegression, SoftmaxRegression

X, Y = datasets.load_diabetes(return_X_y=True)
X = X * [1, 5, 20, 3, 1, 30, 1, 2, 9, 1] + np.arange(10)  # columns of many units
Z = StandardScaler().fit_transform(X)


def same(fitted, theirs, z=True, tolerance=1e-4):
    """Weights, intercept and predictions are scikit-learn's, to 1e-4 of the largest."""
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1, np.abs(b).max()))  # noqa: E731
    close(fitted.weight, np.atleast_2d(theirs.coef_))
    close(fitted.bias, np.atleast_1d(theirs.intercept_))
    if not z:
        close(list(fitted.coefficients.values()), theirs.coef_)
        close(fitted.intercept, theirs.intercept_)


@pytest.mark.parametrize("solver", ["exact", "gradient descent"])
def test_least_squares(solver):
    fitted = LinearRegression(solver=solver).fit((X, Y))
    own, z = linear_model.LinearRegression().fit(X, Y), linear_model.LinearRegression().fit(Z, Y)
    same(fitted, z)
    np.testing.assert_allclose(list(fitted.coefficients.values()), own.coef_, atol=1e-4 * np.abs(own.coef_).max())
    np.testing.assert_allclose(list(fitted.standardized.values()), z.coef_, atol=1e-4 * np.abs(z.coef_).max())
    np.testing.assert_allclose(fitted.intercept, own.intercept_, rtol=1e-4)
    np.testing.assert_allclose(fitted.predict(X), own.predict(X), rtol=1e-5)
    assert fitted.evaluate("train")["r2"] == pytest.approx(own.score(X, Y), abs=1e-6)


@pytest.mark.parametrize("alpha", [0.1, 10.0, 1000.0])
def test_ridge(alpha):
    same(LinearRegression(l2=alpha).fit((X, Y)), linear_model.Ridge(alpha).fit(Z, Y))
    same(LinearRegression(l2=alpha, standardize=False).fit((X, Y)), linear_model.Ridge(alpha).fit(X, Y), z=False)
    same(LinearRegression(l2=alpha / len(X), per_row=False).fit((X, Y)), linear_model.Ridge(alpha).fit(Z, Y))
    descended = LinearRegression(l2=alpha, solver="gradient descent").fit((X, Y))
    same(descended, linear_model.Ridge(alpha).fit(Z, Y))


@pytest.mark.parametrize("alpha", [0.1, 3.0, 30.0])
@pytest.mark.parametrize("solver", ["exact", "gradient descent"])
def test_lasso(alpha, solver):
    theirs = linear_model.Lasso(alpha, tol=1e-12, max_iter=100_000)
    fitted = LinearRegression(l1=alpha, per_row=False, solver=solver).fit((X, Y))
    same(fitted, theirs.fit(Z, Y))
    assert ((fitted.weight[0] == 0) == (theirs.coef_ == 0)).all()  # S1.40: it zeroes coefficients
    if solver == "exact":
        own = LinearRegression(l1=alpha, per_row=False, standardize=False).fit((X, Y))
        same(own, theirs.fit(X, Y), z=False)
        same(LinearRegression(l1=alpha * len(X)).fit((X, Y)), theirs.fit(Z, Y))  # S1.40: lambda / m


def test_elastic_net():
    theirs = linear_model.ElasticNet(alpha=2.0, l1_ratio=0.3, tol=1e-12, max_iter=100_000).fit(Z, Y)
    same(LinearRegression(l1=0.6, l2=1.4, per_row=False).fit((X, Y)), theirs)


def test_the_course_s_ridge_has_lambda_over_m():
    """S1.39: the gradient (1/m) X'(Xw - y) + (lambda/m) w is 0 at the solution."""
    fitted, m = LinearRegression(l2=7.0).fit((X, Y)), len(X)
    error = Z @ fitted.weight[0] + fitted.bias[0] - Y
    np.testing.assert_allclose(Z.T @ error / m + 7.0 / m * fitted.weight[0], 0, atol=1e-4)


def test_the_course_s_lines():
    line = LinearRegression().fit((np.array([[50.0], [60], [70], [80], [100]]), np.array([400.0, 450, 500, 550, 650])))
    assert line.coefficients["x0"] == pytest.approx(5) and line.intercept == pytest.approx(150)  # S0.06
    assert line.predict(np.array([[120.0]]))[0] == pytest.approx(750)  # S0.06
    rng = np.random.default_rng(0)
    x = rng.uniform([50, 1], [200, 5], (20, 2))
    plane = LinearRegression().fit((x, x @ [5.1, 6.5] + 133))
    assert plane.predict(np.array([[75.0, 2.0]]))[0] == pytest.approx(528.5, rel=1e-5)  # S0.07


def test_a_singular_matrix_gives_the_least_norm_and_says_so():
    x = np.stack([Z[:, 0], 2 * Z[:, 0], Z[:, 1]], 1)
    with pytest.warns(DataWarning, match="no single solution, 3 columns say only 2 different things"):
        fitted = LinearRegression(standardize=False).fit((x, Y))
    same(fitted, linear_model.LinearRegression().fit(x, Y))  # scikit-learn's is of least norm too
    same(LinearRegression(l2=1.0, standardize=False).fit((x, Y)), linear_model.Ridge(1.0).fit(x, Y))  # and no warning
    with pytest.warns(DataWarning, match="10 columns say only 4"):
        few = LinearRegression().fit((X[:5], Y[:5]))  # fewer rows than columns
    np.testing.assert_allclose(few.predict(X[:5]), Y[:5], rtol=1e-4)


@pytest.mark.parametrize("c", [0.1, 1.0, 100.0])
def test_logistic(c):
    x, y = datasets.load_breast_cancer(return_X_y=True)
    z = StandardScaler().fit_transform(x)
    theirs = linear_model.LogisticRegression(C=c, tol=1e-12, max_iter=1000, solver="newton-cholesky").fit(z, y)
    fitted = LogisticRegression(l2=1 / c).fit((x, y))
    same(fitted, theirs)
    np.testing.assert_allclose(fitted.predict_proba(x), theirs.predict_proba(z), atol=1e-4)
    assert (fitted.predict(x) == theirs.predict(z)).all()


def test_logistic_in_own_units_and_without_a_penalty():
    x, y = X[:, :4], Y > 150
    theirs = linear_model.LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000, solver="newton-cholesky").fit(x, y)
    for standardize in (True, False):
        fitted = LogisticRegression(l2=0.0, standardize=standardize).fit((x, y))
        found = list(fitted.coefficients.values())
        np.testing.assert_allclose(found, theirs.coef_[0], atol=1e-4 * np.abs(theirs.coef_).max())
        np.testing.assert_allclose(fitted.intercept, theirs.intercept_[0], rtol=1e-4)


def test_softmax():
    x, y = datasets.load_wine(return_X_y=True)
    z = StandardScaler().fit_transform(x)
    theirs = linear_model.LogisticRegression(C=2.0, tol=1e-12, max_iter=10_000).fit(z, y)
    fitted = SoftmaxRegression(l2=0.5).fit((x, y))
    same(fitted, theirs)
    np.testing.assert_allclose(fitted.predict_proba(x), theirs.predict_proba(z), atol=1e-5)
    assert list(fitted.coefficients) == ["0", "1", "2"] == list(fitted.intercept)
    own = np.array([[*w.values()] for w in fitted.coefficients.values()]) @ x.T  # logits from the columns themselves
    own = own.T + np.array([*fitted.intercept.values()])
    np.testing.assert_allclose(own, z @ theirs.coef_.T + theirs.intercept_, atol=1e-3)


def test_softmax_of_two_classes_is_logistic():
    x, y = X[:, :3], Y > 150
    two, one = SoftmaxRegression(l2=2.0).fit((x, y)), LogisticRegression(l2=1.0).fit((x, y))  # S4.16
    np.testing.assert_allclose(two.weight[1] - two.weight[0], one.weight[0], atol=1e-5)
    np.testing.assert_allclose(two.predict_proba(x), one.predict_proba(x), atol=1e-6)


def test_classes_that_a_plane_parts():
    with pytest.warns(DataWarning, match="a plane parts the classes without a mistake"):
        LogisticRegression(l2=0.0).fit((np.arange(8.0)[:, None], np.arange(8) > 3))


def test_a_table_with_every_kind_of_column():
    import polars as pl

    rng = np.random.default_rng(0)
    n = 400
    frame = pl.DataFrame(
        {
            "area": rng.uniform(30, 200, n),
            "garden": rng.choice(["no", "yes"], n),
            "town": rng.choice(["Bath", "Ely", "Wells"], n),
            "street": [f"s{i:02d}" for i in rng.integers(0, 20, n)],  # more than 12 levels: a code
        }
    )
    effect = np.arange(20.0)
    street = frame["street"].str.slice(1).cast(pl.Int64).to_numpy()
    price = frame["area"].to_numpy() * 3 + 40 * (frame["garden"] == "yes").to_numpy() + effect[street]
    price = price + 25 * (frame["town"] == "Ely").to_numpy()
    dataset = data.load(frame.with_columns(price=pl.Series(price)), "price", valid=0, test=0.2)
    with pytest.warns(DataWarning, match="no single solution"):  # the levels of a category sum to 1
        fitted = LinearRegression().fit(dataset)
    w = fitted.coefficients
    assert w["area"] == pytest.approx(3, abs=1e-3) and w["garden=yes"] == pytest.approx(40, abs=1e-2)
    assert w["town=Ely"] - w["town=Bath"] == pytest.approx(25, abs=1e-2)
    assert w["street=s19"] - w["street=s00"] == pytest.approx(19, abs=1e-2)
    assert fitted.evaluate("test")["r2"] > 0.9999
    row = {"area": [100.0], "garden": ["yes"], "town": ["Ely"], "street": ["s07"]}
    assert fitted.predict(pl.DataFrame(row))[0] == pytest.approx(300 + 40 + 25 + 7, rel=1e-4)
    assert "town=Ely" in repr(fitted) and "standardised" in repr(fitted)


def test_images_and_series():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4), dtype=np.uint8)
    fitted = LogisticRegression().fit((images, images[:, 1, 2] > 128))
    assert max(fitted.coefficients, key=lambda k: abs(fitted.coefficients[k])) == "pixel 1,2,0"
    assert (fitted.predict(images) == (images[:, 1, 2] > 128)).mean() > 0.9
    series = rng.normal(size=(60, 5, 2))
    fitted = LinearRegression().fit((series, series[:, 3, 1]))
    assert fitted.coefficients["x1 at 3"] == pytest.approx(1, abs=1e-4)


def test_data_in_pieces(monkeypatch):
    whole = LinearRegression(l2=1.0).fit((X, Y)), LogisticRegression().fit((X, Y > 150))
    monkeypatch.setattr("derin.models.linear.ROWS", 100)
    monkeypatch.setattr("derin.models.linear.HELD", 0)
    parts = LinearRegression(l2=1.0).fit((X, Y)), LogisticRegression().fit((X, Y > 150))
    for a, b in zip(whole, parts, strict=True):
        np.testing.assert_allclose(a.weight, b.weight, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: LinearRegression(l2=-1.0), "LinearRegression.l2 must be 0 or more, got -1.0"),
        (lambda: LinearRegression(l1=float("inf")), "LinearRegression.l1 must be 0 or more, got inf"),
        (
            lambda: LinearRegression(solver="magic"),
            "LinearRegression.solver must be one of 'exact', 'gradient descent'",
        ),
        (lambda: LinearRegression(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: LinearRegression(steps=0), "steps must be at least 1"),
        (lambda: LinearRegression(learning_rate=9.0, solver="gradient descent").fit((X, Y)), "is too large for these"),
    ],
)
def test_bad_hyperparameters(make, message):
    with pytest.raises(SpecError, match=message):
        make()


@pytest.mark.parametrize(
    "model, target, message",
    [
        (LinearRegression(), Y > 150, "predicts numbers, and .* has classes: take LogisticRegression"),
        (LogisticRegression(), Y, "predicts one of two classes, and .* has a number: take LinearRegression"),
        (LogisticRegression(), np.arange(len(Y)) % 3, "has more: take SoftmaxRegression"),
        (SoftmaxRegression(), Y, "predicts classes, and .* is a number: take LinearRegression"),
    ],
)
def test_targets_that_do_not_fit(model, target, message):
    with pytest.raises(DataError, match=message):
        model.fit((X, target))


def test_too_few_steps_are_said():
    with pytest.warns(DataWarning, match="3 steps were not enough"):
        LinearRegression(l1=1.0, steps=3).fit((X, Y))


def test_a_regression_is_a_value_and_a_file():
    for model in (LinearRegression(l1=0.1, per_row=False), LogisticRegression(l2=2.0), SoftmaxRegression()):
        assert spec.from_json(spec.to_json(model)) == model

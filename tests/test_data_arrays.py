"""Arrays in every form: what is read, how it is encoded, and what is refused."""

import gzip
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derin import data
from derin.data import readers
from derin.data.arrays import ArrayInputs, TokenInputs, load_arrays
from derin.data.images import ImageInputs
from derin.errors import DataError
from derin.spec import from_json, structure, to_json

ALL = {"valid": 0, "test": 0}


def numbers(n=40, d=3, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(5, 3, (n, d)), random.integers(0, 2, n)


def same(a, b):
    """The same parts to the bit, and the same schema."""
    assert a.fingerprint == b.fingerprint
    assert a.schema == b.schema


# -- encoding


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 60),
    st.integers(1, 5),
    st.integers(0, 1000),
    st.sampled_from(["float32", "float64", "int16"]),
)
def test_standardised_on_the_training_part(n, d, seed, dtype):
    x = (np.random.default_rng(seed).normal(0, 50, (n, d)) + 7).astype(dtype)
    rows = np.sort(np.random.default_rng(seed + 1).permutation(n)[: max(2, n // 2)])
    rest = np.setdiff1d(np.arange(n), rows)
    y = np.arange(n) * 0.5
    found = data.load((x, y), indices=(rows, [], rest))
    train = x[rows].astype(np.float64)
    scale = np.where(train.std(0) == 0, 1, train.std(0))
    expected = (x.astype(np.float64) - train.mean(0)) / scale
    assert np.allclose(found.train.x, expected[rows], atol=1e-5)
    assert np.allclose(found.test.x, expected[rest], atol=1e-5)
    assert found.train.x.dtype == np.float32
    assert np.array_equal(found.train.rows, rows) and np.array_equal(found.test.rows, rest)


def test_constant_features_have_scale_one():
    x = np.array([[1e6, 1.0], [1e6, 2.0], [1e6, 3.0], [1e6, 4.0]])
    found = data.load((x, [0.1, 0.2, 0.3, 0.4]), **ALL)
    assert np.asarray(found.schema.inputs.scale)[0] == 1
    assert np.array_equal(found.train.x[:, 0], np.zeros(4))


def test_missing_values_become_the_training_median_and_are_flagged():
    x = np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, 0.0], [100.0, 1.0], [5.0, 2.0]])
    with pytest.warns(data.DataWarning, match=r"missing values \(nan\): feature 0 of X 25.0 %"):
        found = data.load((x, np.arange(5) / 3), indices=([0, 1, 2, 3], [], [4]))
    inputs = found.schema.inputs
    assert inputs.missing == (0,) and np.asarray(inputs.fill)[0] == 3
    assert found.train.x.shape == (4, 3)
    assert found.train.x[:, 2].tolist() == [0, 1, 0, 0]
    filled = np.array([1, 3, 3, 100.0])
    observed = np.array([1, 3, 100.0])
    assert np.allclose(found.train.x[:, 0], (filled - observed.mean()) / observed.std(), atol=1e-6)
    later = inputs.encode(np.array([[np.nan, np.nan]]))  # missing where training had none: the median as well
    assert np.allclose(later[0, 1], (0.5 - 0.5) / 0.5) and later[0, 2] == 1


def test_a_feature_without_any_value():
    x = np.array([[np.nan, 1.0], [np.nan, 2.0], [np.nan, 4.0]])
    with pytest.warns(data.DataWarning, match=r"feature 0 of X 100.0 %"):
        found = data.load((x, [0.1, 0.2, 0.4]), **ALL)
    assert np.isfinite(found.train.x).all()


def test_series_are_standardised_by_channel():
    x = np.random.default_rng(0).normal([10, -3], [2, 5], (30, 7, 2))
    found = data.load((x, np.arange(30) % 2), **ALL)
    assert found.train.x.shape == (30, 7, 2)
    assert np.allclose(found.train.x.mean((0, 1)), 0, atol=1e-5)
    assert np.allclose(found.train.x.std((0, 1)), 1, atol=1e-5)


def test_series_with_gaps_keep_their_shape():
    x = np.random.default_rng(0).normal(size=(30, 7, 2))
    x[3, 2, 1] = np.nan
    with pytest.warns(data.DataWarning, match="missing"):
        found = data.load((x, np.arange(30) % 2), **ALL)
    assert found.train.x.shape == (30, 7, 2) and np.isfinite(found.train.x).all()


def test_whole_numbers_are_numbers_unless_they_are_tokens():
    x = np.array([[1, 2], [3, 4], [5, 9], [0, 1]])
    y = [0, 1, 0, 1]
    assert data.load((x, y), **ALL).train.x.dtype == np.float32
    tokens = data.load((x, y), kind="tokens", **ALL)
    assert np.array_equal(tokens.train.x, x) and tokens.train.x.dtype == np.int32
    assert tokens.schema.inputs == TokenInputs((2,), 10)
    with pytest.raises(DataError, match="go from 0 to 9"):
        tokens.schema.encode([[10, 0]])
    with pytest.raises(DataError, match="fractions"):
        data.load((x + 0.5, y), kind="tokens", **ALL)
    with pytest.raises(DataError, match="start at 0; -1 came"):
        data.load((x - 1, y), kind="tokens", **ALL)


@pytest.mark.parametrize("shape", [(12, 8, 6), (12, 8, 6, 1), (12, 8, 6, 3), (12, 3, 8, 6)])
def test_bytes_are_images(shape):
    x = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = data.load((x, np.arange(12) % 2), **ALL)
    expected = x[..., None] if len(shape) == 3 else np.moveaxis(x, 1, -1) if shape[1] == 3 else x
    assert np.array_equal(found.train.x, expected) and found.train.x.dtype == np.uint8
    inputs = found.schema.inputs
    assert isinstance(inputs, ImageInputs) and inputs.size == (8, 6)
    assert np.allclose(inputs.mean, expected.mean((0, 1, 2)) / 255, atol=1e-12)
    assert np.allclose(inputs.std, expected.std((0, 1, 2)) / 255, atol=1e-12)
    y, _ = found.input_layer().apply({}, {}, found.train.x)
    assert y.dtype == jnp.float32
    assert np.allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-4) and np.allclose(np.std(y, (0, 1, 2)), 1, atol=1e-4)
    assert np.array_equal(found.schema.encode(x[:2]), expected[:2])


def test_numbers_as_images():
    found = data.load("digits", kind="images", **ALL)
    assert found.train.x.shape == (1797, 8, 8, 1) and found.train.x.dtype == np.uint8
    x = np.random.default_rng(0).random((10, 6, 5))
    floats = data.load((x, np.arange(10) % 2), kind="images", **ALL)
    assert floats.train.x.shape == (10, 6, 5, 1) and floats.train.x.dtype == np.float32
    assert np.allclose(floats.train.x.mean(), 0, atol=1e-5)
    assert floats.schema.encode(x[:3]).shape == (3, 6, 5, 1)
    with pytest.raises(DataError, match=r"shape \(7,\) are no images"):
        data.load((x.reshape(-1)[:70].reshape(10, 7), np.arange(10) % 2), kind="images", **ALL)


def test_jax_arrays_lists_and_booleans():
    x, y = numbers()
    whole = data.load((x.astype(np.float32), y), **ALL)
    same(data.load((jnp.asarray(x, jnp.float32), jnp.asarray(y)), **ALL), whole)
    same(data.load((x.astype(np.float32).tolist(), y.tolist()), **ALL), whole)
    flags = data.load((x > 5, y), **ALL)
    assert flags.train.x.dtype == np.float32
    with_none = [[1.0, None], [2.0, 3.0], [4.0, 4.0]]
    with pytest.warns(data.DataWarning, match="missing"):
        assert data.load((with_none, [0.1, 0.2, 0.3]), **ALL).train.x.shape == (3, 3)


# -- targets


@pytest.mark.parametrize(
    "y, kind",
    [
        ([0, 1, 2] * 20, "classes"),
        (["a", "b", "c"] * 20, "classes"),
        ([True, False, True] * 20, "binary"),
        (np.linspace(0, 1, 60), "number"),
        (np.array([b"no", b"yes", b"no"] * 20), "binary"),
    ],
)
def test_what_a_target_is(y, kind):
    x, _ = numbers(60)
    found = data.load((x, y))
    assert found.schema.targets[0].kind == kind
    assert len(found.train.x) == len(found.train.y) == len(found.train.rows)


def test_task_decides():
    x, _ = numbers(60)
    assert data.load((x, [0, 1, 2] * 20), task="number").schema.targets[0].kind == "number"


def test_several_targets():
    x, y = numbers(60)
    both = np.stack([x[:, 0], x[:, 1]], 1)
    found = data.load((x, np.stack([x[:, 0], y], 1)))  # a number and a class
    assert [t.name for t in found.schema.targets] == ["target_0", "target_1"]
    assert isinstance(found.train.y, tuple) and found.train.y[0].shape == found.train.rows.shape
    named = data.load((x, both), target=["size", "price"])
    assert [t.name for t in named.schema.targets] == ["size", "price"]
    mixed = data.load((x, {"size": x[:, 0], "kind": np.where(y, "a", "b")}))
    assert [t.kind for t in mixed.schema.targets] == ["number", "binary"]
    assert np.allclose(mixed.schema.targets[0].decode(mixed.train.y[0]), x[mixed.train.rows, 0], atol=1e-4)


def test_shapes_of_one_target():
    x, y = numbers()
    whole = data.load((x, y), **ALL)
    same(data.load((x, y[:, None]), **ALL), whole)
    same(data.load((x, y[None, :]), **ALL), whole)  # [1, n], as the course writes it
    assert data.load((x, y), target="answer").schema.targets[0].name == "answer"


def test_one_hot_rows_are_classes():
    x, _ = numbers(30)
    y = np.arange(30) % 3
    found = data.load((x, np.eye(3)[y]), **ALL)
    assert np.array_equal(found.train.y, y)
    assert "one-hot" in found.notes[0]


def test_rows_without_a_target_are_left_out_and_counted():
    x, _ = numbers(20)
    y = np.linspace(0, 1, 20)
    y[[3, 7]] = np.nan
    with pytest.warns(data.DataWarning, match="2 of 20 rows have no 'target'"):
        found = data.load((x, y))
    kept = np.concatenate([part.rows for part in found.parts.values()])
    assert sorted(kept) == [i for i in range(20) if i not in (3, 7)]


# -- parts


@settings(max_examples=20, deadline=None)
@given(st.integers(12, 80), st.integers(0, 100), st.sampled_from([0, 0.1, 0.3]), st.sampled_from([0.1, 0.25]))
def test_no_row_is_in_two_parts(n, seed, valid, test):
    x, _ = numbers(n, 2, seed)
    found = data.load((x, x[:, 0] ** 2), valid=valid, test=test, seed=seed)
    rows = np.concatenate([part.rows for part in found.parts.values()])
    assert sorted(rows) == list(range(n))
    for part in found.parts.values():
        assert np.allclose(part.x, found.schema.encode(x[part.rows]) if len(part.rows) else part.x)


def test_groups_times_and_separate_arrays():
    x, y = numbers(60)
    groups = np.repeat(np.arange(12), 5)
    found = data.load((x, y), group=groups)
    used = [set(groups[part.rows]) for part in found.parts.values()]
    assert not used[0] & used[1] and not used[0] & used[2] and not used[1] & used[2]
    ordered = data.load((x, y), time=np.arange(60)[::-1])
    assert ordered.test.rows.max() < ordered.valid.rows.min() < ordered.train.rows.min()
    apart = data.load((x, y), test=(x[:10], y[:10]), valid=0)
    assert apart.test.rows.tolist() == list(range(60, 70)) and len(apart.train.rows) == 60
    assert np.array_equal(apart.test.x, apart.train.x[:10])
    with pytest.raises(DataError, match="one value for each of the 60 rows"):
        data.load((x, y), group=[1, 2])
    with pytest.raises(DataError, match="not both"):
        data.load((x, y), test=(x, y), indices=([0], [1], [2]))
    with pytest.raises(DataError, match=r"shape \(3,\), one of the test part \(2,\)"):
        data.load((x, y), test=(x[:, :2], y))


def test_a_class_only_in_the_test_part():
    x, _ = numbers(20)
    with pytest.warns(data.DataWarning, match="no training row has 'target' = 1"):
        data.load((x, [0, 2] * 9 + [1, 1]), indices=(list(range(18)), [], [18, 19]))
    with pytest.raises(DataError, match="rows of one class"):
        data.load((x, np.arange(20) // 10), indices=(list(range(10)), [], list(range(10, 20))))


# -- files


def test_npy_files(tmp_path):
    x, y = numbers()
    np.save(tmp_path / "X.npy", x)
    np.save(tmp_path / "y.npy", y)
    whole = data.load((x, y))
    loaded = data.load(tmp_path / "X.npy", target=tmp_path / "y.npy")
    assert np.array_equal(loaded.train.x, whole.train.x) and np.array_equal(loaded.train.y, whole.train.y)
    same(data.load(loaded.source, **loaded.options), loaded)  # what a resumed run does
    same(data.load((tmp_path / "X.npy", tmp_path / "y.npy")), whole)
    np.save(tmp_path / "F.npy", np.asfortranarray(x))
    assert np.array_equal(data.load((tmp_path / "F.npy", y)).train.x, whole.train.x)


@pytest.mark.parametrize("names", [("X", "y"), ("x", "y"), ("data", "target"), ("images", "labels"), None])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_files(tmp_path, names, save):
    x, y = numbers()
    path = tmp_path / "all.npz"
    save(path, x, y) if names is None else save(path, **dict(zip(names, (x, y), strict=True)))
    same(data.load(path), data.load((x, y)))


def test_npz_with_parts_as_keras_has_them(tmp_path):
    x, y = numbers(60)
    path = tmp_path / "mnist.npz"
    np.savez(path, x_train=x[:50], y_train=y[:50], x_test=x[50:], y_test=y[50:])
    found = data.load(path, valid=0)
    assert found.test.rows.tolist() == list(range(50, 60)) and len(found.train.rows) == 50
    assert np.array_equal(found.schema.targets[0].decode(found.test.y), y[50:])
    with pytest.raises(DataError, match="parts of its own"):
        data.load(path, test=(x, y))


def test_npz_read_twice_and_in_column_order(tmp_path):
    x, y = numbers(5000, 40)
    np.savez_compressed(tmp_path / "c.npz", X=x, y=y)
    np.savez(tmp_path / "f.npz", X=np.asfortranarray(x), y=y)
    npz = readers.Npz(tmp_path / "c.npz")
    array = npz["X"]
    assert np.array_equal(array[3000:4000], x[3000:4000])
    assert np.array_equal(array[10:20], x[10:20])  # back again
    assert np.array_equal(np.asarray(array), x)
    npz.close()
    same(data.load(tmp_path / "f.npz"), data.load(tmp_path / "c.npz"))


def test_named_arrays(tmp_path):
    x, y = numbers()
    path = tmp_path / "odd.npz"
    np.savez(path, waves=x, mood=y, more=y.astype(float) + np.arange(40))
    found = data.load(path, target="mood", inputs="waves", **ALL)
    assert found.schema.targets[0].name == "mood"
    assert np.array_equal(next(found.schema.batches(path, labelled=True)).y, found.train.y)
    two = data.load(path, target=["mood", "more"], inputs="waves", **ALL)
    assert [t.kind for t in two.schema.targets] == ["binary", "number"]
    same(data.load(two.source, **two.options), two)
    with pytest.raises(DataError, match="which array is the input"):
        data.load(path)
    with pytest.raises(DataError, match=r"no array 'mod'\. Nearest: mood"):
        data.load(path, target="mod")


def test_hdf5(tmp_path):
    h5py = pytest.importorskip("h5py")
    x, y = numbers()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data/features", data=x, chunks=(7, 3), compression="gzip")
        file["data/labels"] = y
        file["classes"] = np.array([b"no", b"yes"])
    found = data.load(tmp_path / "a.h5", **ALL)
    assert found.schema.targets[0].labels == ("no", "yes")
    whole = data.load((x, np.array(["no", "yes"])[y]), **ALL)
    same(found, whole)
    batches = list(found.schema.batches(tmp_path / "a.h5", rows=9, labelled=True))
    assert np.array_equal(np.concatenate([b.x for b in batches]), found.train.x)
    assert np.array_equal(np.concatenate([b.y for b in batches]), found.train.y)
    with h5py.File(tmp_path / "texts.h5", "w") as file:
        file["x"] = x
        file["y"] = ["b", "a"] * 20
    assert data.load(tmp_path / "texts.h5").schema.targets[0].labels == ("a", "b")


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"not read at all")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(DataError, match=r"pip install derin\[hdf5\]"):
        data.load(tmp_path / "a.h5")


def test_cat_noncat(shared_data):
    pytest.importorskip("h5py")
    folder = shared_data / "images" / "cat_noncat_h5"
    found = data.load(folder / "train_catvnoncat.h5", test=folder / "test_catvnoncat.h5", valid=0)
    assert found.train.x.shape == (209, 64, 64, 3) and found.test.x.shape == (50, 64, 64, 3)
    assert found.schema.targets[0].labels == ("non-cat", "cat")
    assert (found.train.y.sum(), found.test.y.sum()) == (72, 33)
    same(data.load(found.source, **found.options), found)
    batch = next(found.schema.batches(folder / "test_catvnoncat.h5", labelled=True))
    assert np.array_equal(batch.x, found.test.x) and np.array_equal(batch.y, found.test.y)


# -- idx


def write_idx(path: Path, array: np.ndarray, packed: bool = False) -> None:
    codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
    head = bytes([0, 0, codes[array.dtype.name], array.ndim]) + np.array(array.shape, ">u4").tobytes()
    content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("packed", [False, True])
def test_idx_types(tmp_path, dtype, packed):
    array = (np.random.default_rng(0).random((4, 3, 2)) * 100).astype(dtype)
    write_idx(tmp_path / "a", array, packed)
    found = readers.read_idx(tmp_path / "a")
    assert np.array_equal(found, array) and found.dtype == array.dtype


def idx_folder(folder: Path, parts=("train", "t10k"), packed=True) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    x = np.random.default_rng(0).integers(0, 256, (30, 5, 4)).astype(np.uint8)
    end = ".gz" if packed else ""
    for part, rows in zip(parts, (slice(0, 24), slice(24, 30)), strict=False):
        write_idx(folder / f"{part}-images-idx3-ubyte{end}", x[rows], packed)
        write_idx(folder / f"{part}-labels-idx1-ubyte{end}", (np.arange(30) % 3).astype(np.uint8)[rows], packed)
    return x


@pytest.mark.parametrize("packed", [False, True])
def test_idx_folder(tmp_path, packed):
    x = idx_folder(tmp_path / "set", packed=packed)
    found = data.load(tmp_path / "set", valid=0)
    assert np.array_equal(found.train.x[..., 0], x[:24]) and np.array_equal(found.test.x[..., 0], x[24:])
    assert np.array_equal(found.test.y, np.arange(24, 30) % 3)
    same(data.load(found.source, **found.options), found)
    file = next((tmp_path / "set").glob("t10k-images*"))
    batch = next(found.schema.batches(file, labelled=True))
    assert np.array_equal(batch.y, found.test.y)


def test_idx_without_a_test_part(tmp_path):
    idx_folder(tmp_path / "set", parts=("train",))
    found = data.load(tmp_path / "set")
    assert len(found.train.x) + len(found.valid.x) + len(found.test.x) == 24


def test_mnist(shared_data):
    found = data.load(shared_data / "images" / "mnist")
    assert found.train.x.shape == (51000, 28, 28, 1) and found.valid.x.shape == (9000, 28, 28, 1)
    assert found.test.x.shape == (10000, 28, 28, 1) and found.test.y[:5].tolist() == [7, 2, 1, 0, 4]
    assert np.allclose(found.schema.inputs.mean, 0.1307, atol=5e-4)  # the numbers that everyone uses
    assert np.allclose(found.schema.inputs.std, 0.3081, atol=5e-4)
    assert found.schema.targets[0].labels == tuple(range(10))


# -- scikit-learn's sets


@pytest.mark.parametrize("name", readers.BUNDLED)
def test_bundled_sets_are_those_of_scikit_learn(name):
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    read = readers.bundled(name)
    assert np.array_equal(read.x, bunch.data)
    assert list(read.names) == [str(n) for n in bunch.feature_names]
    targets = np.stack(list(read.y.values()), 1)
    assert np.array_equal(targets.reshape(bunch.target.shape), bunch.target)
    if name in ("iris", "wine", "breast_cancer"):
        assert list(read.classes) == bunch.target_names.tolist()
    if name == "linnerud":
        assert list(read.y) == bunch.target_names


def test_bundled_sets_load():
    iris = data.load("iris")
    assert iris.schema.targets[0].labels == ("setosa", "versicolor", "virginica")
    assert iris.schema.inputs.names[0] == "sepal length (cm)"
    assert iris.source == "iris"
    same(data.load(iris.source, **iris.options), iris)
    assert "sepal length" in repr(iris)
    assert [t.name for t in data.load("linnerud").schema.targets] == ["Weight", "Waist", "Pulse"]
    assert data.load("linnerud", target="Waist").schema.targets[0].name == "Waist"
    with pytest.raises(DataError, match="no target 'Wast'"):
        data.load("linnerud", target="Wast")
    with pytest.raises(DataError, match=r"Nearest: iris"):
        data.load("irs")


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        data.load("iris")


# -- prediction


def test_batches_are_the_same_numbers(tmp_path):
    x, y = numbers(50)
    found = data.load((x, y), **ALL)
    np.save(tmp_path / "X.npy", x)
    np.savez(tmp_path / "both.npz", X=x, y=y)
    for source in ((x, y), x, tmp_path / "X.npy", tmp_path / "both.npz"):
        batches = list(found.schema.batches(source, rows=7))
        assert [len(b.x) for b in batches] == [7] * 7 + [1]
        assert np.array_equal(np.concatenate([b.x for b in batches]), found.train.x)
        assert np.concatenate([b.rows for b in batches]).tolist() == list(range(50))
        assert all(b.y is None for b in batches)
    labelled = list(found.schema.batches(tmp_path / "both.npz", labelled=True))
    assert np.array_equal(labelled[0].y, found.train.y)
    with pytest.raises(DataError, match="no target 'target'"):
        list(found.schema.batches(x, labelled=True))
    with pytest.raises(DataError, match=r"shape \(2,\) here; the model was trained on \(3,\)"):
        list(found.schema.batches(x[:, :2]))


def test_batches_leave_out_rows_without_a_target():
    x, _ = numbers(20)
    y = np.linspace(0, 1, 20)
    found = data.load((x, y), **ALL)
    y[4] = np.nan
    with pytest.warns(data.DataWarning, match="1 of 20"):
        batches = list(found.schema.batches((x, y), rows=6, labelled=True))
    assert np.concatenate([b.rows for b in batches]).tolist() == [i for i in range(20) if i != 4]
    assert np.array_equal(np.concatenate([b.x for b in batches]), np.delete(found.train.x, 4, 0))


def test_a_table_for_a_model_trained_on_arrays(tmp_path):
    pl = pytest.importorskip("polars")
    iris = data.load("iris", **ALL)
    read = readers.bundled("iris")
    frame = pl.DataFrame(read.x, schema=list(read.names))
    shuffled = frame.select(reversed(frame.columns)).with_columns(target=pl.lit("setosa"))
    assert np.array_equal(next(iris.schema.batches(shuffled)).x, iris.train.x)
    shuffled.write_csv(tmp_path / "iris.csv")
    batch = next(iris.schema.batches(tmp_path / "iris.csv", labelled=True))
    assert np.array_equal(batch.x, iris.train.x) and batch.y.sum() == 0
    x, y = numbers(10)
    unnamed = data.load((x, y), **ALL)
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", fmt="%.17g")
    assert np.array_equal(next(unnamed.schema.batches(tmp_path / "x.csv")).x, unnamed.train.x)


@pytest.mark.parametrize("kind", ["numbers", "tokens", "images"])
def test_schema_is_a_file(kind):
    x = np.random.default_rng(0).integers(0, 200, (30, 4, 4))
    found = data.load((x, np.arange(30) % 3), kind=kind, **ALL)
    again = from_json(to_json(found.schema))
    assert again == found.schema and structure(again) == structure(found.schema)
    assert np.array_equal(again.encode(x), found.train.x)
    assert isinstance(again.inputs, ArrayInputs | TokenInputs | ImageInputs)
    hash(structure(found.schema))


# -- what is refused

X, Y = numbers(20)
BAD = {
    "lengths": ((X, Y[:-1]), "X has 20 rows and y has 19"),
    "no rows": ((np.zeros((0, 3)), []), "no rows"),
    "no features": ((np.zeros((3, 0)), [0, 1, 0]), "axis of length 0"),
    "one axis": ((np.arange(5.0), np.arange(5)), r"reshape\(-1, 1\)"),
    "a number": ((3.0, [1]), "a single number"),
    "ragged": (([[1, 2], [3]], [0, 1]), "Every row needs the same length"),
    "text": (([["a", "b"], ["c", "d"]], [0, 1]), "holds text"),
    "objects": ((np.array([[1, "a"], [2, "b"]], object), [0, 1]), "not all numbers"),
    "complex": ((X + 1j, Y), "complex128"),
    "dates": ((X.astype("datetime64[s]"), Y), "datetime64"),
    "infinite": (
        (np.where(np.arange(20)[:, None] == 7, [1, np.inf, 1], X), Y),
        "feature 1 of X is infinite in row 7",
    ),
    "too large": ((X * 1e300, Y), "too large"),
    "no target": ((X,), "no target to learn"),
    "no target array": (X, "no target to learn"),
    "three": ((X, Y, Y), "a tuple of 3"),
    "one class": ((X, np.zeros(20, int)), "one class only"),
    "constant": ((X, np.full(20, 0.5)), "nothing to learn"),
    "deep target": ((X, np.zeros((20, 2, 2))), r"targets are \[rows\]"),
    "target dates": ((X, np.arange(20).astype("datetime64[D]")), "datetime64"),
    "infinite target": ((X, np.where(np.arange(20) == 3, np.inf, 0.5)), "infinite in 1 rows"),
    "all missing": ((X, np.full(20, np.nan)), "missing in every row"),
    "one target": ((X, 3), "a single value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays(case):
    source, message = BAD[case]
    with pytest.raises(DataError, match=message):
        data.load(source)


def test_sparse_matrices_are_refused():
    sparse = pytest.importorskip("scipy.sparse")
    with pytest.raises(DataError, match="toarray"):
        data.load((sparse.eye(20).tocsr(), Y))


def test_bad_options():
    with pytest.raises(DataError, match="kind must be one of"):
        data.load((X, Y), kind="pictures")
    with pytest.raises(DataError, match=r"no option 'knd'\. Nearest: kind"):
        data.load((X, Y), knd="images")
    with pytest.raises(DataError, match="memory_budget is a number of bytes"):
        data.load((X, Y), memory_budget=-1)


def test_bad_files(tmp_path):
    pytest.importorskip("h5py")

    def refused(name, content, message, **options):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message):
            data.load(tmp_path / name, **options)

    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "objects.npy", np.array([{}, 1], object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", X=np.array([[1, "a"]], object), y=Y)
    np.savez(tmp_path / "good.npz", X=X, y=Y)
    whole = (tmp_path / "X.npy").read_bytes()
    packed = (tmp_path / "good.npz").read_bytes()
    refused("empty.npy", b"", "the file is empty")
    refused("text.npy", b"1,2,3\n", "is not a NumPy array file")
    refused("cut.npy", whole[:-100], "is not a NumPy array file")
    refused("empty.npz", b"", "is not an .npz file")
    refused("cut.npz", packed[: len(packed) // 2], "is not an .npz file")
    refused("damaged.npz", packed[:200] + b"\xff" * 40 + packed[240:], "damaged|Bad CRC|cut off")
    refused("text.h5", b"hello", "is not an HDF5 file")
    refused("odd.xyz", b"hello", "what kind of file")
    refused("train-images-idx3-ubyte", b"\0\0\x08\x03" + b"\0\0\0\x05" * 3 + b"\0" * 20, "cut off or damaged")
    refused("a-train-images-idx3-ubyte.gz", b"\x1f\x8bnope", "cannot be read")
    refused("b-train-images-idx3-ubyte", b"hello", "not an idx file")
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(DataError, match="could run code"):
            data.load(tmp_path / name)
    with pytest.raises(DataError, match="no target to learn"):
        data.load(tmp_path / "X.npy")
    with pytest.raises(DataError, match="no file is called"):
        data.load(tmp_path / "X.npy", target="nowhere.npy")
    with pytest.raises(DataError, match=r"Nearest: X\.npy"):
        data.load(tmp_path / "XX.npy")


def test_bad_idx_folders(tmp_path):
    idx_folder(tmp_path / "a")
    (tmp_path / "a" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="no file with the labels"):
        data.load(tmp_path / "a")
    idx_folder(tmp_path / "c")
    idx_folder(tmp_path / "c", parts=("letters-train",))
    with pytest.raises(DataError, match="several sets"):
        data.load(tmp_path / "c")
    idx_folder(tmp_path / "d")
    write_idx(tmp_path / "d" / "train-labels-idx1-ubyte.gz", np.zeros(3, np.uint8), True)
    with pytest.raises(DataError, match="24 images and labels of shape"):
        data.load(tmp_path / "d")
    (tmp_path / "e").mkdir()
    with pytest.raises(DataError, match="neither images nor idx"):
        data.load(tmp_path / "e")


def test_nothing_else_is_imported():
    """load("digits") is what a first run does: it imports no polars, pandas, scikit-learn, Pillow or h5py."""
    import subprocess

    code = (
        "import sys, derin.data; derin.data.load('digits'); "
        "print([m for m in ('polars', 'pandas', 'sklearn', 'PIL', 'h5py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_and_y(library):
    frames = pytest.importorskip(library)
    x, y = numbers(60)
    columns = {"size": x[:, 0], "town": np.where(y, "Izmir", "Bursa"), "age": x[:, 1]}
    frame = frames.DataFrame(columns)
    price = x[:, 2] * 3
    whole = data.load(frames.DataFrame(columns | {"price": price}), target="price")
    same(
        data.load((frame, frames.Series(price, name="price") if library == "pandas" else price), "price"),
        whole,
    )
    found = data.load((frame, price))
    assert [t.name for t in found.schema.targets] == ["target"]
    assert found.schema.inputs.columns == whole.schema.inputs.columns
    assert np.array_equal(found.train.x, whole.train.x) and np.array_equal(found.train.y, whole.train.y)
    batch = next(whole.schema.batches((frame, price), labelled=True))
    assert np.allclose(whole.schema.targets[0].decode(batch.y), price, atol=1e-4)
    with pytest.raises(DataError, match="called 'age', and so has y"):
        data.load((frame, {"age": y}))


def test_load_arrays_is_what_load_calls():
    x, y = numbers()
    same(load_arrays((x, y)), data.load((x, y)))

"""Readers of arrays: NumPy files, MNIST-style idx files, HDF5, the sets that come with scikit-learn.

A reader opens a source and gives a `Read`: inputs that can be sliced by rows without being held in memory as
a whole, target columns by name, and which rows are for training and testing where the source says so. Nothing
is fitted or encoded here.
"""

from __future__ import annotations

import gzip
import importlib.util
import math
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from derin.errors import DataError

PARTS = ("train", "valid", "test")
BUNDLED = ("iris", "digits", "wine", "breast_cancer", "diabetes", "linnerud")
_SMALL = 2**24  # bytes of an array that is taken out of its file at once
FILES = (".npy", ".npz", ".h5", ".hdf5", ".hdf", ".he5")


class Read(NamedTuple):
    """What a source holds.   x: [n, ...] with shape, dtype and x[start:stop]; y: columns [n] or [n, k] by name"""

    x: Any
    y: dict[str, np.ndarray]
    names: tuple[str, ...] = ()  # of the features, where the source has names for them
    parts: dict[str, range] | None = None  # rows of each part, where the source fixes them
    notes: tuple[str, ...] = ()  # what was understood, for people
    classes: tuple[str, ...] = ()  # names of the classes in their order, where the source has them


class Stacked:
    """Arrays one below the other, read by slices without joining them.   [n_i, ...] each -> [sum n_i, ...]

    >>> Stacked([np.zeros((2, 3)), np.ones((1, 3))])[1:3].tolist()
    [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]
    """

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = list(arrays)
        self.starts = np.cumsum([0] + [a.shape[0] for a in self.arrays])
        self.shape = (int(self.starts[-1]), *self.arrays[0].shape[1:])
        self.dtype = np.result_type(*(a.dtype for a in self.arrays))
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        pieces = [
            np.asarray(a[max(start - s, 0) : max(stop - s, 0)])
            for a, s in zip(self.arrays, self.starts[:-1], strict=True)
            if s < stop and start < s + a.shape[0]
        ]
        if len(pieces) == 1:
            return pieces[0].astype(self.dtype, copy=False)
        return np.concatenate(pieces or [np.empty((0, *self.shape[1:]))]).astype(self.dtype, copy=False)


class Seen:
    """A source seen through a function of its blocks: another shape or type.   [n, ...] -> [n, *shape]"""

    def __init__(self, x: Any, shape: tuple[int, ...], dtype: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.x, self.change = x, change
        self.shape, self.dtype = (x.shape[0], *shape), np.dtype(dtype)
        self.ndim = len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self.change(np.asarray(self.x[rows]))


# -- what may be given as X and as y


def inputs(x: Any, name: str = "X") -> Any:
    """X as something with shape, dtype and row slices.   array-like [n, ...] -> [n, ...]

    Raises DataError for what cannot be the inputs of a net: text, ragged lists, no rows, complex numbers.

    >>> inputs([[1, 2], [3, 4]]).shape
    (2, 2)
    """
    if isinstance(x, (Stacked, Seen, NpzArray)) or type(x).__module__.startswith("h5py"):
        return _checked_inputs(x, name)
    if hasattr(x, "toarray") and hasattr(x, "tocsr"):
        raise DataError(f"{name} is a sparse matrix; dense arrays are needed: {name}.toarray().")
    try:
        array = x if isinstance(x, np.ndarray) else np.asarray(x)
    except ValueError as error:  # lists of different lengths
        raise DataError(
            f"{name} is not a rectangular array: {_first_line(error)} Every row needs the same length: pad short ones."
        ) from None
    except Exception as error:
        raise DataError(f"{name} cannot be read as an array ({type(x).__name__}): {_first_line(error)}") from None
    if array.dtype == object:
        array = _numbers_of_objects(array, name)
    return _checked_inputs(array, name)


def _numbers_of_objects(array: np.ndarray, name: str) -> np.ndarray:
    """Objects that are numbers or None (missing) as floats."""
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{name} holds Python objects that are not all numbers: {_first_line(error)} "
            "Give a table with text columns as a data frame or a CSV file."
        ) from None


def _checked_inputs(x: Any, name: str) -> Any:
    kind, shape = x.dtype.kind, tuple(x.shape)
    if kind in "UST":
        raise DataError(
            f"{name} holds text (dtype {x.dtype}). Give a table with text columns as a frame or a CSV file."
        )
    if kind not in "biuf":
        raise DataError(f"{name} has dtype {x.dtype}; numbers are needed: floats, whole numbers or true/false.")
    if len(shape) < 2:
        what = "a single number" if not shape else f"of shape {shape}"
        raise DataError(
            f"{name} is {what}; it needs at least two axes, [rows, features]. "
            f"One feature: {name}.reshape(-1, 1). One row: {name}.reshape(1, -1)."
        )
    if shape[0] == 0:
        raise DataError(f"{name} is empty: shape {shape} has no rows.")
    if 0 in shape:
        raise DataError(f"{name} is empty: shape {shape} has an axis of length 0.")
    return x


def targets(y: Any, n: int, names: Sequence[str] = (), name: str = "y") -> tuple[dict[str, np.ndarray], list[str]]:
    """Targets by name, and what was understood.   [n], [n, 1], [1, n]: [n]; [n, k]: k with names, else one [n, k]

    One-hot rows [n, classes] of 0 and 1 become one column of class numbers; a dict has targets by name. Raises
    DataError for another length.

    >>> targets([[0, 1], [1, 0], [1, 0]], 3)[0]["target"].tolist()
    [1, 0, 0]
    """
    if isinstance(y, dict):
        columns: dict[str, np.ndarray] = {}
        for key, values in y.items():
            found, _ = targets(values, n, (str(key),), f"{name}[{key!r}]")
            columns |= found
        if not columns:
            raise DataError(f"{name} is an empty dictionary; it needs target columns by name.")
        return columns, []
    if not names and getattr(y, "columns", None) is not None:  # a frame of pandas or polars
        names = [str(c) for c in y.columns]
    elif not names and isinstance(getattr(y, "name", None), str) and y.name:  # a series
        names = [y.name]
    try:
        array = np.asarray(y)
    except Exception as error:
        raise DataError(f"{name} is not a rectangular array: {_first_line(error)}") from None
    if array.ndim == 0:
        raise DataError(f"{name} is a single value, {y!r}; one target for each row is needed.")
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind in "cVM" or (array.dtype.kind == "m"):
        raise DataError(f"{name} has dtype {array.dtype}; a target is a number, a text or true/false.")
    if array.ndim == 2 and array.shape == (1, n):  # as the course writes it
        array = array[0]
    if array.shape[0] != n:
        raise DataError(f"X has {n:,} rows and {name} has {array.shape[0]:,}; they must be equally many.")
    if array.ndim > 2:
        raise DataError(f"{name} has shape {array.shape}; targets are [rows] or [rows, targets].")
    if array.ndim == 1 or array.shape[1] == 1:
        return {names[0] if names else "target": array.reshape(n)}, []
    if len(names) < 2 and _one_hot(array):
        note = f"{name} [{n}, {array.shape[1]}] holds one-hot rows: read as {array.shape[1]} classes"
        return {names[0] if names else "target": array.argmax(1)}, [note]
    k = array.shape[1]
    if len(names) < 2:
        return {names[0] if names else "target": _as_numbers(array)}, []
    if len(names) != k:
        raise DataError(f"{name} has {k} columns and {len(names)} names came: {list(names)}.")
    return {names[i]: array[:, i] for i in range(k)}, []


def _as_numbers(array: np.ndarray) -> np.ndarray:
    """Objects as floats, where all of them are numbers or None."""
    if array.dtype != object or any(isinstance(v, (str, bytes, bool)) for v in array.flat):
        return array
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        return array


def by_columns(y: dict[str, np.ndarray], whole: Callable[[str, np.ndarray], bool]) -> dict[str, np.ndarray]:
    """Targets of which only those [n, k] that are `whole` stay so; the columns of others get numbers."""
    found: dict[str, np.ndarray] = {}
    for name, array in y.items():
        if array.ndim == 1 or whole(name, array):
            found[name] = array
        else:
            found |= {f"{name}_{i}": column for i, column in enumerate(array.T)}
    return found


def _one_hot(array: np.ndarray) -> bool:
    if array.dtype.kind not in "biuf" or array.shape[0] <= array.shape[1]:
        return False
    ones = array == 1
    return bool((ones.sum(1) == 1).all() and ((array == 0).sum(1) == array.shape[1] - 1).all())


# -- NumPy files


def read_npy(path: str | Path) -> np.ndarray:
    """A .npy file, mapped and not read.   Raises DataError: not one, cut off, or holding Python objects."""
    path = Path(path)
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise missing(path) from None
    except Exception as error:
        reason = _first_line(error)
        if "object" in reason.lower() or "pickle" in reason:
            reason = "it holds Python objects, which are not loaded because they could run code."
        elif path.exists() and path.stat().st_size == 0:
            reason = "the file is empty."
        elif "mmap length" in reason or "EOF" in reason or "No data left" in reason:
            reason = "the file is cut off."
        raise DataError(f"{path} is not a NumPy array file that can be read: {reason}") from None


class Npz:
    """The arrays of an .npz file by name; each is read when it is sliced, in order, block by block."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.file = zipfile.ZipFile(self.path)
            self.names = [n.removesuffix(".npy") for n in self.file.namelist() if n.endswith(".npy")]
        except FileNotFoundError:
            raise missing(self.path) from None
        except (zipfile.BadZipFile, OSError) as error:
            raise DataError(f"{self.path} is not an .npz file that can be read: {_first_line(error)}") from None
        if not self.names:
            raise DataError(f"{self.path} holds no arrays.")

    def close(self) -> None:
        self.file.close()

    def __getitem__(self, name: str) -> NpzArray:
        return NpzArray(self, name)


class NpzArray:
    """One array of an .npz file.   Slices that move forward read on; one that goes back starts again."""

    def __init__(self, npz: Npz, name: str) -> None:
        self.npz, self.name = npz, name
        self._start()
        self.ndim = len(self.shape)

    def _start(self) -> None:
        where = f"{self.npz.path}, array {self.name!r}"
        try:
            self.stream = self.npz.file.open(f"{self.name}.npy")
            version = np.lib.format.read_magic(self.stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            self.shape, self.fortran, self.dtype = read(self.stream)
        except Exception as error:
            raise DataError(f"{where} cannot be read: {_first_line(error)}") from None
        if self.dtype.hasobject:
            raise DataError(
                f"{where} holds Python objects, which are not loaded because they could run code. "
                "Save numbers or text with a fixed dtype."
            )
        self.at = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        whole = self[: self.shape[0]] if self.shape else self._bytes(self.dtype.itemsize).reshape(())
        return whole if dtype is None else whole.astype(dtype)

    def __getitem__(self, rows: slice) -> np.ndarray:
        start, stop, _ = rows.indices(self.shape[0])
        row = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self.fortran and self.ndim > 1:  # columns first: no row can be read alone
            if not hasattr(self, "whole"):
                self._start()
                data = self._bytes(row * self.shape[0])
                self.whole = data.reshape(self.shape[::-1]).transpose()
            return self.whole[start:stop]
        if start < self.at:
            self._start()
        while self.at < start:
            step = min(start - self.at, max(1, 2**24 // max(row, 1)))
            self._bytes(step * row)
            self.at += step
        data = self._bytes((stop - start) * row)
        self.at = stop
        return data.reshape(stop - start, *self.shape[1:])

    def _bytes(self, count: int) -> np.ndarray:
        where = f"{self.npz.path}, array {self.name!r}"
        try:
            data = self.stream.read(count)
        except (OSError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(f"{where} is damaged: {_first_line(error)}") from None
        if len(data) != count:
            raise DataError(f"{where} is cut off.")
        return np.frombuffer(data, self.dtype)


# -- MNIST-style idx files

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_IDX_NAME = re.compile(
    r"^(?P<set>.*?)(?P<part>train|t10k|test|valid)[-_.](?P<role>images|labels)[-_.]idx\d(-ubyte)?(\.gz)?$"
)


def read_idx(path: str | Path) -> np.ndarray:
    """An idx file, packed by gzip or not.   Format: yann.lecun.com/exdb/mnist.   Raises DataError."""
    path = Path(path)
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except FileNotFoundError:
        raise missing(path) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {_first_line(error)}") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES or data[3] == 0:
        raise DataError(f"{path} is not an idx file: it begins with {data[:4].hex(' ') or 'nothing'}.")
    axes = data[3]
    sizes = data[4 : 4 + 4 * axes]
    shape = tuple(int(v) for v in np.frombuffer(sizes[: len(sizes) // 4 * 4], ">u4"))
    dtype = np.dtype(_IDX_TYPES[data[2]])
    wanted = 4 + 4 * axes + math.prod(shape) * dtype.itemsize
    if len(shape) != axes or len(data) != wanted:
        raise DataError(
            f"{path} says that it holds {shape} values of {dtype.name}, {wanted:,} bytes, but has "
            f"{len(data):,}. It is cut off or damaged."
        )
    array = np.frombuffer(data, dtype, offset=4 + 4 * axes).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


def is_idx(path: Path) -> bool:
    """A file named like an idx file, or a folder that holds such files."""
    if path.is_dir():
        return any(_IDX_NAME.match(p.name) for p in path.iterdir())
    return _IDX_NAME.match(path.name) is not None


def _idx(path: Path) -> Read:
    """A folder with train-images-idx3-ubyte(.gz) and kin, or one images file with its labels beside it."""
    folder = path if path.is_dir() else path.parent
    found: dict[tuple[str, str], dict[str, Path]] = {}
    for p in sorted(folder.iterdir()):
        if m := _IDX_NAME.match(p.name):
            part = "test" if m["part"] == "t10k" else m["part"]
            found.setdefault((m["set"], part), {}).setdefault(m["role"], p)
    if path.is_file():
        m = _IDX_NAME.match(path.name)
        key = (m["set"], "test" if m["part"] == "t10k" else m["part"]) if m else ("", "train")
        files = found.get(key, {}) | {"images": path}
        if m and m["role"] == "labels":
            raise DataError(f"{path} holds labels; give the images file, or the folder that holds both.")
        x = read_idx(path)
        y = targets(read_idx(files["labels"]), x.shape[0])[0] if "labels" in files else {}
        return Read(x, y)
    sets = sorted({name for name, _ in found})
    if len(sets) > 1:
        raise DataError(f"{path} holds several sets of idx files: {', '.join(sets)}. Give a folder with one.")
    xs: list[Any] = []
    ys: list[np.ndarray] = []
    parts: dict[str, range] = {}
    start = 0
    for part in PARTS:
        files = found.get((sets[0], part), {})
        if not files:
            continue
        for role in ("images", "labels"):
            if role not in files:
                has = next(iter(files.values())).name
                raise DataError(f"{path} has {has}, but no file with the {role} of that part.")
        x, labels = inputs(read_idx(files["images"]), files["images"].name), read_idx(files["labels"])
        if labels.shape != (x.shape[0],):
            raise DataError(f"{path}: {x.shape[0]:,} images and labels of shape {labels.shape} in the {part} part.")
        if xs and xs[0].shape[1:] != x.shape[1:]:
            raise DataError(f"{path}: images of {xs[0].shape[1:]} and, in the {part} part, of {x.shape[1:]}.")
        xs.append(x)
        ys.append(labels)
        parts[part] = range(start, start := start + x.shape[0])
    return Read(
        xs[0] if len(xs) == 1 else Stacked(xs),
        {"target": np.concatenate(ys)},
        (),
        parts if len(parts) > 1 else None,
    )


# -- arrays by name: .npz and HDF5

_X_WORDS = {"x", "data", "image", "images", "img", "imgs", "feature", "features", "input", "inputs"}
_Y_WORDS = {"y", "label", "labels", "target", "targets", "output", "outputs", "class"}
_PART_WORDS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_CLASS_NAMES = {"list_classes", "classes", "class_names", "label_names", "target_names"}


def role(name: str) -> tuple[str, str] | None:
    """What an array of that name is: (part or "", "x" or "y"); None if the name does not say.

    >>> role("train_set_x"), role("X_test"), role("labels"), role("test/images"), role("weights")
    (('train', 'x'), ('test', 'x'), ('', 'y'), ('test', 'x'), None)
    """
    part, kind = "", ""
    for component in reversed(name.split("/")):  # data/labels: the last word decides
        words = [w.lower() for w in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", component)]
        here = ""
        for word in words:
            if word[:1] in "xy" and word[1:] in _PART_WORDS:  # Xtrain
                here, part = word[0], _PART_WORDS[word[1:]]
            elif word in _PART_WORDS:
                part = _PART_WORDS[word]
            elif word in _X_WORDS or word in _Y_WORDS:
                here = "x" if word in _X_WORDS else "y"
            elif word not in ("set", "arr", "array"):
                return None
        kind = kind or here
    return (part, kind) if kind else None


def _by_name(
    path: Path, arrays: Any, names: list[str], inputs_name: str | None, target: Any
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """The name of X and the names of the targets of each part ("": no part named)."""
    have = f"It holds {_listed(names)}"
    for given in [inputs_name, *_names(target)]:
        if given is not None and given not in names:
            import difflib

            near = difflib.get_close_matches(given, names, n=3)
            hint = f" Nearest: {', '.join(near)}." if near else ""
            raise DataError(f"{path} has no array {given!r}.{hint} {have}.")
    xs: dict[str, list[str]] = {}
    ys: dict[str, list[str]] = {}
    for name in names:
        if meaning := role(name):
            (xs if meaning[1] == "x" else ys).setdefault(meaning[0], []).append(name)
    if sorted(names) == ["arr_0", "arr_1"]:  # np.savez(file, X, y)
        xs, ys = {"": ["arr_0"]}, {"": ["arr_1"]}
    if inputs_name:
        part = (role(inputs_name) or ("",))[0]
        ys = {p: v for p, v in ys.items() if p == part}
        xs = {part: [inputs_name]}
    if target is not None:
        wanted = list(_names(target))
        part = (role(wanted[0]) or ("",))[0]
        if part not in xs and len(xs) == 1:
            part = next(iter(xs))
        ys = {part: wanted}
        if not inputs_name and not xs:
            xs = {part: [n for n in names if n not in wanted and n not in _CLASS_NAMES]}
        xs = {p: [n for n in v if n not in wanted] for p, v in xs.items()}
    if not xs and len(names) == 1:
        xs = {"": names}
    for found, word in ((xs, "inputs"), (ys, "target")):
        for several in found.values():
            if len(several) > 1 and not (word == "target" and target is not None):
                raise DataError(
                    f"{path}: {_listed(several)} could each be the {word}. Say which: {word}='{several[0]}'."
                )
    if not xs or not any(xs.values()):
        raise DataError(
            f"{path}: which array is the input? {have}. Say so: inputs='NAME', target='NAME'. Names found by "
            "themselves: X and y, data and target, images and labels, x_train and y_train."
        )
    return {p: v[0] for p, v in xs.items() if v}, {p: tuple(v) for p, v in ys.items()}


def _names(target: Any) -> tuple[str, ...]:
    return () if target is None else (target,) if isinstance(target, str) else tuple(target)


def _named(path: Path, arrays: Any, names: list[str], inputs_name: str | None, target: Any) -> Read:
    """X, targets and parts out of arrays that have names."""
    xs, ys = _by_name(path, arrays, names, inputs_name, target)
    if "" in xs and "train" not in xs:  # x, y beside x_test, y_test
        xs["train"] = xs.pop("")
        ys = {("train" if p == "" else p): v for p, v in ys.items()}
    pieces: list[Read] = []
    parts: dict[str, range] = {}
    start = 0
    for part in [p for p in PARTS if p in xs]:
        x = inputs(_rows(arrays[xs[part]]), f"{path}, array {xs[part]!r}")
        columns: dict[str, np.ndarray] = {}
        notes: list[str] = []
        for name in ys.get(part, ()):
            label = name if target is not None or len(ys[part]) > 1 else "target"
            found, notes = targets(np.asarray(arrays[name]), x.shape[0], (), f"{path}, array {name!r}")
            columns[label] = next(iter(found.values()))
        pieces.append(Read(x, columns, notes=tuple(notes)))
        parts[part] = range(start, start := start + x.shape[0])
    classes = [n for n in names if n.rpartition("/")[2] in _CLASS_NAMES]
    joined = join(pieces, list(parts), str(path))
    if classes:
        joined = joined._replace(classes=_class_names(np.asarray(arrays[classes[0]])))
    return joined


def _class_names(values: np.ndarray) -> tuple[str, ...]:
    if values.ndim != 1 or values.dtype.kind not in "SUOT":
        return ()
    return tuple(v.decode("utf-8", "replace") if isinstance(v, bytes) else str(v) for v in values.tolist())


def _rows(array: Any) -> Any:
    """An array of a file: left there if it is large, in memory if it is small, so that it is read once."""
    size = math.prod(array.shape) * array.dtype.itemsize
    return np.asarray(array[: array.shape[0]]) if array.shape and size <= _SMALL else array


def join(pieces: Sequence[Read], parts: Sequence[str], where: str) -> Read:
    """Sources of the parts one below the other. Raises DataError when their shapes or targets differ."""
    first = pieces[0]
    for piece, part in zip(pieces[1:], parts[1:], strict=True):
        if piece.x.shape[1:] != first.x.shape[1:]:
            raise DataError(
                f"{where}: an example of the {parts[0]} part has shape {tuple(first.x.shape[1:])}, "
                f"one of the {part} part {tuple(piece.x.shape[1:])}."
            )
        if len(piece.y) != len(first.y):
            raise DataError(
                f"{where}: the {parts[0]} part has targets {list(first.y) or 'none'}, "
                f"the {part} part {list(piece.y) or 'none'}."
            )
        for (name, one), other in zip(first.y.items(), piece.y.values(), strict=True):
            if one.shape[1:] != other.shape[1:]:
                raise DataError(
                    f"{where}: the target {name!r} of the {parts[0]} part has {_a_row(one)}, that of the {part} part "
                    f"{_a_row(other)}."
                )
    if len(pieces) == 1:
        return first
    ranges, start = {}, 0
    for piece, part in zip(pieces, parts, strict=True):
        ranges[part] = range(start, start := start + piece.x.shape[0])
    y = {
        name: np.concatenate([p.y[name] if name in p.y else list(p.y.values())[i] for p in pieces])
        for i, name in enumerate(first.y)
    }
    notes = tuple(note for piece in pieces for note in piece.notes)
    return Read(Stacked([p.x for p in pieces]), y, first.names, ranges, notes, first.classes)


def _a_row(y: np.ndarray) -> str:
    return "one value a row" if y.ndim == 1 else f"{y.shape[1]} values a row"


@contextmanager
def _hdf5(path: Path) -> Iterator[tuple[Any, list[str]]]:
    """The open file, and the names of its data sets."""
    try:
        import h5py
    except ImportError:
        raise DataError(f"reading {path.name} needs h5py: pip install derin[hdf5]") from None
    if not path.exists():
        raise missing(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DataError(f"{path} is not an HDF5 file that can be read: {_first_line(error)}") from None
    with file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        if not names:
            raise DataError(f"{path} holds no data sets.")
        yield file, names


# -- the sets that come with scikit-learn

_IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
_WINE = (
    "alcohol malic_acid ash alcalinity_of_ash magnesium total_phenols flavanoids nonflavanoid_phenols "
    "proanthocyanins color_intensity hue od280/od315_of_diluted_wines proline"
).split()
_CELL = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)
_CANCER = (
    *(f"mean {w}" for w in _CELL),
    *(f"{w} error" for w in _CELL),
    *(f"worst {w}" for w in _CELL),
)
_DIABETES = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")


def bundled(name: str) -> Read:
    """One of scikit-learn's own sets, out of its package's files: importing scikit-learn would take a second.

    The values are those of sklearn.datasets.load_NAME(); classes have their names. Raises DataError.

    >>> read = bundled("iris")
    >>> read.x.shape, read.classes
    ((150, 4), ('setosa', 'versicolor', 'virginica'))
    """
    folder = _sklearn_folder(name)
    if name in ("iris", "wine", "breast_cancer"):
        path = folder / {"wine": "wine_data.csv"}.get(name, f"{name}.csv")
        with path.open(encoding="utf-8") as file:
            classes = tuple(file.readline().strip().split(",")[2:])
            table = np.loadtxt(file, delimiter=",", ndmin=2)
        names = {"iris": _IRIS, "wine": tuple(_WINE), "breast_cancer": _CANCER}[name]
        return Read(table[:, :-1], {"target": table[:, -1].astype(np.int64)}, names, classes=classes)
    if name == "digits":
        table = _numbers(folder / "digits.csv.gz")
        names = tuple(f"pixel_{i}_{j}" for i in range(8) for j in range(8))
        return Read(table[:, :-1], {"target": table[:, -1].astype(np.int64)}, names)
    if name == "diabetes":
        raw = np.loadtxt(folder / "diabetes_data_raw.csv.gz")
        x = (raw - raw.mean(0)) / raw.std(0) / raw.shape[0] ** 0.5  # as load_diabetes() scales them
        return Read(x, {"target": np.loadtxt(folder / "diabetes_target.csv.gz")}, _DIABETES)
    with (folder / "linnerud_exercise.csv").open(encoding="utf-8") as file:
        names = tuple(file.readline().split())
        x = np.loadtxt(file)
    with (folder / "linnerud_physiological.csv").open(encoding="utf-8") as file:
        columns = file.readline().split()
        y = np.loadtxt(file)
    return Read(x, {c: y[:, i] for i, c in enumerate(columns)}, names)


def _numbers(path: Path) -> np.ndarray:
    """A packed table of numbers; np.loadtxt takes four times as long."""
    text = gzip.decompress(path.read_bytes()).decode("ascii").strip()
    return np.fromstring(text.replace("\n", ","), np.float64, sep=",").reshape(text.count("\n") + 1, -1)


def _sklearn_folder(name: str) -> Path:
    spec = importlib.util.find_spec("sklearn")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / "datasets" / "data").is_dir():
            return Path(place) / "datasets" / "data"
    raise DataError(f"the set {name!r} comes with scikit-learn, which is not installed: pip install scikit-learn")


# -- opening any of them


@contextmanager
def opened(
    source: Any,
    target: Any = None,
    *,
    inputs: str | None = None,
    valid: Any = None,
    test: Any = None,
) -> Iterator[Read]:
    """Open arrays, a file or a folder of them; closed at the end of the with-block.

    `valid` and `test` are sources of those parts with the same layout. Raises DataError.

    >>> with opened(([[1.0, 2.0], [3.0, 4.0]], [0, 1])) as read:
    ...     read.x.shape, read.y["target"].tolist()
    ((2, 2), [0, 1])
    """
    given = {"train": source} | {p: s for p, s in (("valid", valid), ("test", test)) if s is not None}
    with ExitStack() as stack:
        pieces = [stack.enter_context(_open_one(s, target, inputs, p != "train")) for p, s in given.items()]
        if len(pieces) == 1:
            yield pieces[0]
            return
        parts = [_only_part(piece, part) for part, piece in zip(given, pieces, strict=True)]
        yield join(parts, list(given), str(source) if isinstance(source, (str, Path)) else "the data")


@contextmanager
def opened_again(source: Any, array: str, target_names: tuple[str, ...]) -> Iterator[Read]:
    """Open a source for prediction or evaluation by a model trained on one like it.

    array, target_names: what X and y were called in training; names found by themselves do as well.
    """
    with _open_one(source, target_names or None, array or None, True) as read:
        if target_names and not read.y:
            raise DataError(
                f"the source has no target {', '.join(map(repr, target_names))}; without it nothing can be scored."
            )
        yield read


def _only_part(read: Read, part: str) -> Read:
    """A file given as the test part may itself name its rows train or test; all of them are that part."""
    if read.parts is not None and part == "train" and len(read.parts) > 1:
        raise DataError(
            f"the source has parts of its own ({', '.join(read.parts)}); leave out valid= and test=, "
            "or give a source without parts."
        )
    return read._replace(parts=None)


@contextmanager
def _open_one(source: Any, target: Any, inputs_name: str | None, lenient: bool) -> Iterator[Read]:
    """lenient: names that the source does not have are no mistake; it is like another one that has them."""
    if not isinstance(source, (str, Path)):
        yield _given(source, target)
        return
    path = Path(source)
    if str(source) in BUNDLED and not path.exists():
        yield _chosen(bundled(str(source)), target, lenient)
        return
    if not path.exists():
        raise missing(path)
    suffix = path.suffix.lower()
    if suffix == ".npz":
        npz = Npz(path)
        try:
            yield _named(path, npz, npz.names, *_wanted(npz.names, inputs_name, target, lenient))
        finally:
            npz.close()
    elif suffix in FILES and suffix != ".npy":
        with _hdf5(path) as (file, names):
            yield _named(path, file, names, *_wanted(names, inputs_name, target, lenient))
    elif suffix == ".npy":
        yield _beside(Read(inputs(read_npy(path), str(path)), {}), target, lenient)
    elif is_idx(path) or _begins_like_idx(path):
        yield _beside(_idx(path), target, lenient)
    else:
        if path.is_dir():
            raise DataError(f"the folder {path} holds neither images nor idx files.")
        raise DataError(
            f"{path}: what kind of file is it? Known: .csv, .tsv, .parquet, .npy, .npz, .h5, idx files, and "
            "folders of images."
        )


def _begins_like_idx(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        start = file.read(4)
    return path.suffix == ".gz" or (len(start) == 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES)


def _wanted(names: list[str], inputs_name: str | None, target: Any, lenient: bool) -> tuple[str | None, Any]:
    """The names of X and y to look for in a file of named arrays."""
    if target is not None and not isinstance(target, str):
        if not isinstance(target, (list, tuple)) or not target or not all(isinstance(t, str) for t in target):
            raise DataError(f"target= must be the name of an array in the file, got {type(target).__name__}.")
    if lenient:
        inputs_name = inputs_name if inputs_name in names else None
        target = target if target is not None and set(_names(target)) <= set(names) else None
    return inputs_name, target


def _chosen(read: Read, target: Any, lenient: bool) -> Read:
    """Some of the targets of a bundled set."""
    if target is None or (lenient and not set(_names(target)) <= set(read.y)):
        return read
    for name in _names(target):
        if name not in read.y:
            raise DataError(f"this set has no target {name!r}; it has {_listed(list(read.y))}.")
    return read._replace(y={name: read.y[name] for name in _names(target)})


def _beside(read: Read, target: Any, lenient: bool) -> Read:
    """Targets for a file that has inputs only: an array, or the path of a .npy or idx file."""
    if target is None or (lenient and not _is_file(target)):
        return read
    name = "target"
    if isinstance(target, (str, Path)):
        name, path = str(target), Path(target)
        if not path.exists():
            raise DataError(f"target: no file is called {name!r}. Give a .npy or idx file with one value a row.")
        target = read_npy(path) if path.suffix.lower() == ".npy" else read_idx(path)
    y, notes = targets(target, read.x.shape[0], (), name)
    return read._replace(y=y, notes=(*read.notes, *notes))


def _is_file(target: Any) -> bool:
    return isinstance(target, (str, Path)) and Path(target).is_file()


def _given(source: Any, target: Any) -> Read:
    """(X, y), (X,), or X alone, each an array or the path of a .npy file.

    target: names for the columns of y, or y itself where X came alone."""
    if isinstance(source, Read):
        return source
    x: Any = source
    y: Any = None
    if isinstance(source, tuple):
        if len(source) not in (1, 2):
            raise DataError(f"arrays are given as (X, y); a tuple of {len(source)} came.")
        x, y = source[0], source[1] if len(source) == 2 else None
    x, y = (read_npy(v) if isinstance(v, (str, Path)) else v for v in (x, y))
    named: tuple[str, ...] = ()
    if isinstance(target, str):
        named = (target,)
    elif isinstance(target, (list, tuple)) and all(isinstance(t, str) for t in target):
        named = tuple(target)
    elif y is None:
        y = target
    names: tuple[str, ...] = ()
    if getattr(x, "columns", None) is not None and not isinstance(x, np.ndarray):
        names = tuple(str(c) for c in x.columns)
    x = inputs(x)
    if y is None:
        return Read(x, {}, names)
    columns, notes = targets(y, x.shape[0], named if len(named) in (1, _width(y)) else ())
    return Read(x, columns, names, None, tuple(notes))


def _width(y: Any) -> int:
    shape: tuple[int, ...] = () if isinstance(y, dict) else tuple(np.shape(y))
    return shape[1] if len(shape) == 2 and shape[0] > 1 else 1


# -- messages


def missing(path: Path) -> DataError:
    """The error for a path where there is nothing, with the nearest names in that folder."""
    import difflib

    try:
        beside = [p.name for p in path.parent.iterdir()]
    except OSError:
        beside = []
    near = difflib.get_close_matches(path.name, beside, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return DataError(f"{path} does not exist.{hint}")


def _first_line(error: BaseException) -> str:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:12]))
    return shown + (f" and {len(names) - 12} more" if len(names) > 12 else "")

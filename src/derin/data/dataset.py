"""Any source of examples becomes a Dataset: three parts of encoded rows, and the schema that encoded them.

    data = derin.data.load("titanic.csv", target="Survived")
    print(data)                                           # what was understood, column by column
    data.train.x, data.train.y, data.train.rows           # arrays; rows are row numbers in the source
    for batch in data.schema.batches("new.csv"):          # the same encoding, streaming, for prediction
        batch.x

A kind of source is three things: a function that reads it into a Dataset (`tables.load_table`, ...), a spec
below `Inputs` that encodes raw rows again at prediction, and the layer that stands before the net.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from derin import spec
from derin.data.targets import Target
from derin.errors import DataError
from derin.spec import Spec, nearest

if TYPE_CHECKING:
    from derin.nn.module import Module

Y = np.ndarray | tuple[np.ndarray, ...]


class Part(NamedTuple):
    """Encoded rows: those that train, choose or judge.

    x: float32 [n, d] for tables (the last columns are the codes of embedded categories), uint8 [n, h, w, c]
        for images, float32 or int32 [n, ...] for other arrays
    y: int32 [n] class index, float32 [n] standardised number or [n, k] a vector of them; a tuple of them for
        several targets
    rows: int64 [n], row numbers in the source. Those of a separate validation or test source go on counting
        after the rows of the main one.
    """

    x: np.ndarray
    y: Y
    rows: np.ndarray


class Batch(NamedTuple):
    """Rows of a source, encoded.   x: [n, ...], y: as in Part, or None if not asked for, rows: int64 [n]"""

    x: np.ndarray
    y: Y | None
    rows: np.ndarray


class Line(NamedTuple):
    """One line of the table of columns: text, as printed."""

    column: str
    kind: str
    missing: str
    levels: str
    becomes: str


class Inputs(Spec):
    """Base of TableInputs, ImageInputs and ArrayInputs: how raw rows become x, fitted on training."""

    def encode(self, raw: Any) -> np.ndarray:
        """Raw rows -> x.   Raises DataError where they are not like those of training."""
        raise NotImplementedError

    def layer(self) -> Module:
        """What stands before the net: embeds codes, scales pixels, or passes x on."""
        from derin.nn import Identity

        return Identity()

    def batches(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        """Read a source in pieces, in its order.

        targets: () for x alone; else y is read too, and rows whose target is missing are left out."""
        raise NotImplementedError

    def lines(self) -> list[Line]:
        """The table of columns."""
        return []

    @property
    def standardised(self) -> np.ndarray | None:
        """Which columns of x have mean 0 and deviation 1 over the training part; None if x is no table.   bool [d]"""
        return None

    def meaning(self) -> Inputs:
        """The same without how the source was written down: two files of equal rows mean the same."""
        return self


class Schema(Spec):
    """All that is known about the data, in a file: how inputs and targets were understood and encoded."""

    inputs: Inputs
    targets: tuple[Target, ...]

    def batches(self, source: Any, rows: int = 65536, labelled: bool = False) -> Iterator[Batch]:
        """A source (a path, a frame, an array) as encoded batches of at most `rows` rows, in its order.

        labelled: also give y; then rows whose target is missing are left out, and counted in a warning.
        Reads a file piece by piece: memory does not grow with it. Raises DataError."""
        if isinstance(source, tuple):  # (frame, y)
            from derin.data.frames import joined

            source, _ = joined(source, [t.name for t in self.targets])
        return self.inputs.batches(source, rows, self.targets if labelled else ())

    def encode(self, raw: Any) -> np.ndarray:
        """Raw rows in memory -> x"""
        return self.inputs.encode(raw)

    def input_layer(self) -> Module:
        return self.inputs.layer()


class Dataset:
    """Three encoded parts and their schema; print it to see what was understood.

    source: where it came from, None for data in memory. options: what to pass to `load` again, JSON-able.
    notes: sentences for the person (columns left out, rows dropped, how a file was read).
    groups, times: of the rows of train, then those of valid, where they decided the split: codes (-1 is none)
    and moments. They cut folds as well."""

    def __init__(
        self,
        schema: Schema,
        train: Part,
        valid: Part | None = None,
        test: Part | None = None,
        *,
        source: str | None = None,
        options: dict[str, Any] | None = None,
        notes: Sequence[str] = (),
        groups: np.ndarray | None = None,
        times: np.ndarray | None = None,
    ) -> None:
        nothing = take(train, np.zeros(0, np.int64))
        self.schema, self.train = schema, train
        self.valid = nothing if valid is None else valid
        self.test = nothing if test is None else test
        self.source, self.options, self.notes = source, options or {}, tuple(notes)
        self.groups, self.times = groups, times
        self._fingerprint: str | None = None

    @property
    def parts(self) -> dict[str, Part]:
        return {"train": self.train, "valid": self.valid, "test": self.test}

    @property
    def fingerprint(self) -> str:
        """sha256 over the encoded parts: equal if and only if training would see the same numbers."""
        if self._fingerprint is None:
            meaning = self.schema.replace(inputs=self.schema.inputs.meaning())  # labels and units are data as well
            seen = hashlib.sha256(spec.to_json(meaning, None).encode())
            for name, part in self.parts.items():
                ys = part.y if isinstance(part.y, tuple) else (part.y,)
                for array in (part.x, *ys, part.rows):
                    seen.update(f"{name} {array.dtype} {array.shape}".encode())
                    for start in range(0, len(array), 65536):  # memory-mapped arrays are read in pieces
                        seen.update(np.ascontiguousarray(array[start : start + 65536]).data)
            self._fingerprint = seen.hexdigest()
        return self._fingerprint

    @property
    def table(self) -> list[Line]:
        """What was understood, a line a column."""
        return self.schema.inputs.lines()

    def input_layer(self) -> Module:
        """The layer that stands before the net; see Inputs.layer."""
        return self.schema.input_layer()

    def __repr__(self) -> str:
        from derin.data.report import describe

        return describe(self)


def column_places(inputs: Any, width: int) -> dict[str, list[int]]:
    """Which columns of x belong to which column of the table; {} where x is no table."""
    listed = getattr(inputs, "columns", None)
    if listed is not None:
        found, at = {}, 0
        for c in listed:
            if c.width:
                found[c.name] = list(range(at, at + c.width))
                at += c.width
        return found | {c.name: [inputs.numeric + i] for i, c in enumerate(inputs.embedded)}
    if inputs.standardised is None:
        return {}
    names, missing = getattr(inputs, "names", ()), getattr(inputs, "missing", ())
    own = width - len(missing)  # a column that had gaps has a second one, which says so
    gaps = {feature: own + i for i, feature in enumerate(missing)}
    called = [str(n) for n in names] if len(names) == own else [f"x{i}" for i in range(own)]
    return {name: [i, *([gaps[i]] if i in gaps else [])] for i, name in enumerate(called)}


def take(part: Part, rows: np.ndarray) -> Part:
    """The part at these positions."""
    y = tuple(a[rows] for a in part.y) if isinstance(part.y, tuple) else part.y[rows]
    return Part(part.x[rows], y, part.rows[rows])


def load(
    source: Any,
    target: str | int | Sequence[str | int] | None = None,
    *,
    valid: Any = 0.15,
    test: Any = 0.15,
    stratify: bool | None = None,
    group: str | int | None = None,
    time: str | int | None = None,
    indices: Sequence[Any] | None = None,
    seed: int = 0,
    task: str | None = None,
    memory_budget: int | None = None,
    **reading: Any,
) -> Dataset:
    """Read a source, understand it, cut it into parts and encode it.

    source: a CSV, TSV or Parquet file; a polars, pandas or Arrow frame; (X, y) arrays; .npy, .npz, idx or
    HDF5
        files; a folder of images; the name of a set that scikit-learn brings along.
    target: the column (or columns) to predict: a name, or a place (-1 is the last column).
    valid, test: the share of the rows in that part (0 for none), or another source that is that part.
        The defaults are 0.15 each, so 70 % train.
    stratify: give every part its share of each class; None means yes for classes, no for numbers.
    group: column whose rows stay together. time: column by which training comes first and the test last.
        Neither is an input then, except that a date keeps its month, day, weekday and hour.
    indices: (train, valid, test) row numbers, used as they are.
    task: "classes" or "number", where the rule of derin.data.targets decides wrongly.
    memory_budget: bytes; what is larger streams from disk. None: a quarter of the machine's memory.
    reading: options of this kind of source; see tables.load_table, arrays.load_arrays, images.load_images.
    Raises DataError with one clear message. Warns DataWarning."""
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise DataError(f"seed must be a whole number of 0 or more, got {seed!r}.")
    if stratify not in (None, True, False):
        raise DataError(f"stratify must be true, false or left out, got {stratify!r}.")
    for name, share in (("valid", valid), ("test", test)):
        if share is None or (isinstance(share, str) and _is_number(share)):
            raise DataError(f"{name} is a share of the rows, {name}=0.15 or 0 for none, or a source; got {share!r}.")
    if indices is not None and not (isinstance(indices, (list, tuple)) and len(indices) == 3):
        raise DataError(
            f"indices must be (train, valid, test), three lists of row numbers; got {type(indices).__name__}."
        )
    cache = reading.get("cache")
    if cache is not None and not isinstance(cache, (str, Path)):
        raise DataError(f"cache must be a folder's path, got {cache!r}.")
    missing = reading.get("missing")
    if missing is not None and not (
        isinstance(missing, (list, tuple)) and all(isinstance(word, str) for word in missing)
    ):
        raise DataError(f"missing must be a list of texts, got {missing!r}.")
    options = dict(
        target=target, valid=valid, test=test, stratify=stratify, group=group, time=time, indices=indices,
        seed=seed, task=task, memory_budget=memory_budget, **reading,
    )  # fmt: skip
    if isinstance(source, tuple):  # (frame, y)
        from derin.data.frames import joined

        wanted = [target] if isinstance(target, (str, int)) else target or []
        source, named = joined(source, [str(name) for name in wanted])
        options["target"] = named or target
    loader = loader_of(source)
    known = inspect.signature(loader).parameters
    for name in options:
        if name not in known and (name in reading or options[name] is not None):
            raise DataError(f"loading {_described(source)} takes no option {name!r}.{nearest(name, list(known)[1:])}")
    return loader(source, **{name: value for name, value in options.items() if name in known})


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def loader_of(source: Any) -> Any:
    """The function that loads this kind of source. Raises DataError for a path that does not exist."""
    from derin.data import arrays, images, readers, tables

    if source is None:
        raise DataError("there are no data: got None. Give a path, a frame, (X, y) arrays or a bundled set's name.")
    if isinstance(source, (str, Path)):
        path = Path(source)
        if not path.exists() and str(source) not in readers.BUNDLED:
            raise DataError(_no_such_file(path, readers.BUNDLED))
        if path.is_dir() and images.is_folder_of_images(path):
            return images.load_images
    return tables.load_table if tables.is_table(source) else arrays.load_arrays


def kept_options(options: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The options that are not their defaults, as JSON has them: lists for arrays, text for paths."""
    return {k: _plain(v) for k, v in options.items() if k not in defaults or not _same(v, defaults[k])}


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and not isinstance(a, np.ndarray) and a == b


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value.resolve())
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _no_such_file(path: Path, bundled: Sequence[str]) -> str:
    near = ""
    folder = path.parent
    if folder.is_dir():
        near = nearest(path.name, [p.name for p in folder.iterdir()])
        near = near if near.startswith(" Nearest") else ""
    if path.name == str(path) and not path.suffix:
        known = nearest(str(path), bundled)
        return f"there is no file or folder {str(path)!r}, and no bundled set of that name.{known}"
    return f"there is no file or folder {str(path)!r}.{near}"


def _described(source: Any) -> str:
    return repr(str(source)) if isinstance(source, (str, Path)) else f"a {type(source).__name__}"

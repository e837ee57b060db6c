"""Folders of images: one sub-folder a class, or train/, valid/ and test/ with such folders in them.

Images are decoded once, brought to one size and one number of channels, and stay uint8 [n, h, w, channels] in
memory and on the device; `ImageInput` scales them inside the compiled program.
"""

from __future__ import annotations

import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin.data import readers, stream
from derin.data.assemble import assemble, encoded_batches
from derin.data.dataset import Batch, Dataset, Inputs, Line
from derin.data.readers import PARTS, Read, Seen
from derin.data.targets import Target
from derin.data.warning import DataWarning
from derin.errors import DataError
from derin.nn.module import Module
from derin.spec import Scalar

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif")
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N", "F")
_THREADS = 4  # the decoders of Pillow let go of Python's lock
_KEPT = 128  # images that all have one size up to this keep it: somebody has prepared them
_LONGEST = 64  # others: median height and width, in proportion down to this
_LARGE = 2_000_000  # pixels; larger JPEGs are decoded at a fraction of their size, which is five times faster


class Listing(NamedTuple):
    """The image files of a folder.   labels: the class folder of each, or none; parts: rows of each part"""

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    parts: dict[str, range] | None = None
    notes: tuple[str, ...] = ()


class ImageInputs(Inputs):
    """Images of one size, uint8.   [n, h, w, channels], image files, folders -> uint8 [n, h, w, channels]

    Files of another size are resized; arrays of another size are refused.
    """

    size: tuple[int, ...]  # height, width
    channels: int
    mean: tuple[Scalar, ...]  # of each channel, of values / 255, over the training part
    std: tuple[Scalar, ...]
    array: str = ""  # the array's name in its file, where a person gave it

    def fitted(self, x: np.ndarray) -> ImageInputs:
        """With the mean and deviation of encoded images.   x: uint8 [n, h, w, channels]"""
        mean, std = channel_statistics(block for _, block in stream.blocks(x))
        return self.replace(mean=mean, std=std)

    def layer(self) -> Module:
        return ImageInput(self.mean, self.std)

    def encode(self, raw: Any) -> np.ndarray:
        """Arrays of images in any usual layout -> uint8 [n, h, w, channels]"""
        return np.asarray(self._source(readers.inputs(raw))[:])

    def _source(self, x: Any) -> Any:
        seen = x if tuple(x.shape[1:]) == self._shape and x.dtype == np.uint8 else image_view(x)
        if tuple(seen.shape[1:]) != self._shape:
            raise DataError(
                f"images of shape {tuple(seen.shape[1:])} came; the model was trained on {self._shape} "
                "(height, width, channels). Image files would be resized; arrays are not."
            )
        if seen.dtype != np.uint8:
            raise DataError(
                f"images are whole numbers from 0 to 255, as in training; {x.dtype} with other values came."
            )
        return seen

    @property
    def _shape(self) -> tuple[int, ...]:
        return (*self.size, self.channels)

    def batches(self, source: Any, rows: int, targets: tuple[Target, ...]) -> Iterator[Batch]:
        """A folder of images, image files, or arrays of images, in pieces."""
        if _of_files(source):
            found = _listing(source)
            if targets and not found.labels:
                raise DataError(
                    f"the images of {source} lie in no class folders; without classes nothing can be scored."
                )
            y = {targets[0].name: np.array(found.labels, object)} if targets else {}
            x = Decoded(found.files, (self.size[0], self.size[1]), self.channels)
            yield from encoded_batches(Read(x, y), lambda block, _: block, rows, targets)
            return
        with readers.opened_again(source, self.array, tuple(t.name for t in targets)) as read:
            yield from encoded_batches(read._replace(x=self._source(read.x)), lambda block, _: block, rows, targets)

    def lines(self) -> list[Line]:
        height, width = self.size
        colours = {1: "grey", 3: "RGB"}.get(self.channels, f"{self.channels} channels")
        return [Line("image", f"{height} x {width} {colours}", "", "", "uint8, scaled in the program")]


class ImageInput(Module):
    """uint8 images to numbers around zero, in the program.   x: uint8 [b, h, w, c] -> float32 [b, h, w, c]

    Each channel as (x / 255 - mean) / std; mean and std are those of the training part.

    >>> layer = ImageInput(mean=(0.5,), std=(0.25,))
    >>> y, _ = layer.apply({}, {}, np.full((1, 2, 2, 1), 255, np.uint8))
    >>> float(y[0, 0, 0, 0])
    2.0
    """

    mean: tuple[Scalar, ...]
    std: tuple[Scalar, ...]

    def forward(self, x: jax.Array) -> jax.Array:
        # one multiplication and one addition a pixel
        scale = 1.0 / (255.0 * jnp.stack([jnp.asarray(s, jnp.float32) for s in self.std]))
        mean = jnp.stack([jnp.asarray(m, jnp.float32) for m in self.mean])
        return (x.astype(jnp.float32) - 255.0 * mean) * scale


# -- which files


def is_folder_of_images(path: Path) -> bool:
    """A folder with an image in it or below it, or an image file.

    >>> is_folder_of_images(Path("nothing here"))
    False
    """
    if path.is_file():
        return path.suffix.lower() in SUFFIXES
    return path.is_dir() and next(_images_below(path), None) is not None


def _images_below(folder: Path) -> Iterator[Path]:
    """Image files of a folder and of those below it, in the order of their names; hidden ones left out."""
    try:
        entries = sorted(folder.iterdir(), key=_natural)
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}.") from None
    for entry in entries:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            yield from _images_below(entry)
        elif entry.suffix.lower() in SUFFIXES:
            yield entry


def _natural(path: Path) -> tuple[list[Any], str]:
    """cat.2.jpg before cat.10.jpg."""
    pieces = re.split(r"(\d+)", path.name)
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(pieces)], path.name


def find(path: str | Path) -> Listing:
    """The image files of a folder with their classes and parts. Raises DataError when there are none.

    FOLDER/CLASS/... gives labels; FOLDER/train/CLASS/..., FOLDER/test/CLASS/... parts as well; a folder that
    holds only image files, or one file, is for prediction.
    """
    path = Path(path)
    if path.is_file():
        return Listing((path,), ())
    if not path.is_dir():
        raise DataError(f"{path} does not exist.")
    folders = [
        p for p in sorted(path.iterdir(), key=_natural) if p.is_dir() and not p.name.startswith((".", "__MACOSX"))
    ]
    parts = {_PARTS[p.name.lower()]: p for p in folders if p.name.lower() in _PARTS}
    train = parts.get("train")
    if train is None or not any(next(_images_below(p), None) for p in train.iterdir() if p.is_dir()):
        return _classes(path, folders)
    files: list[Path] = []
    labels: list[str] = []
    rows: dict[str, range] = {}
    notes: list[str] = []
    beside = [p.name for p in folders if p.name.lower() not in _PARTS]
    if beside:
        notes.append(f"left out: {', '.join(beside)} beside {train.name}")
    for part in ("train", "valid", "test"):
        if part not in parts:
            continue
        below = [p for p in sorted(parts[part].iterdir(), key=_natural) if p.is_dir() and not p.name.startswith(".")]
        found = _classes(parts[part], below)
        if not found.labels:
            notes.append(f"left out: {parts[part].name}, whose images lie in no class folders")
            continue
        rows[part] = range(len(files), len(files) + len(found.files))
        files += found.files
        labels += found.labels
        notes += found.notes
    return Listing(tuple(files), tuple(labels), rows if len(rows) > 1 else None, tuple(notes))


def _classes(path: Path, folders: Sequence[Path]) -> Listing:
    files: list[Path] = []
    labels: list[str] = []
    empty = []
    for folder in folders:
        inside = list(_images_below(folder))
        if not inside:
            empty.append(folder.name)
        files += inside
        labels += [folder.name] * len(inside)
    loose = [
        p
        for p in sorted(path.iterdir(), key=_natural)
        if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    ]
    notes = [f"folders without images: {', '.join(empty)}"] if empty and files else []
    if files:
        if loose:
            notes.append(f"left out: {len(loose)} images that lie in no class folder, {loose[0].name} first")
        return Listing(tuple(files), tuple(labels), None, tuple(notes))
    if not loose:
        raise DataError(
            f"{path} holds no images ({', '.join(SUFFIXES)}). Classes are sub-folders: {path.name}/CLASS/IMAGE.png."
        )
    return Listing(tuple(loose), ())


# -- decoding


def layout(
    files: Sequence[Path], size: tuple[int, int] | None = None, channels: int | None = None
) -> tuple[tuple[int, int], int]:
    """The size (height, width) and the channels that images of these files should have, from their headers.

    A size that all share is kept up to 128; otherwise the median height and width, in proportion down to at
    most 64. Three channels when one image is in colour, else one. A file that is no image has no say here.
    """
    pillow = _pillow()
    sizes: Counter[tuple[int, int]] = Counter()
    colour = False
    if size is None or channels is None:
        for file in files:
            try:
                with pillow.open(file) as image:
                    width, height = image.size
                    if image.format == "JPEG" and image.getexif().get(0x0112) in (
                        5,
                        6,
                        7,
                        8,
                    ):  # lies on its side
                        width, height = height, width
                    sizes[height, width] += 1
                    colour = colour or image.mode not in _GREY
            except Exception:  # decoding will name it
                continue
    if size is None and not sizes:
        size = (1, 1)  # nothing could be opened: decoding will say so
    if size is None:
        size = next(iter(sizes))
        if len(sizes) > 1 or max(size) > _KEPT:
            all_sizes = np.array(list(sizes.elements()), np.float64)
            height, width = np.median(all_sizes, axis=0)
            down = min(1.0, _LONGEST / max(height, width))
            size = (max(1, round(height * down)), max(1, round(width * down)))
    return size, channels or (3 if colour else 1)


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise DataError("reading images needs Pillow: pip install pillow") from None
    return Image


def decode(file: Path, size: tuple[int, int], channels: int) -> np.ndarray:
    """One image file, resized with a bilinear filter.   -> uint8 [h, w, channels].   Raises DataError.

    Transparency is dropped; 16-bit greys keep their upper eight bits; a photograph that lies on its side by
    its EXIF entry is turned.
    """
    _pillow()
    from PIL import Image, ImageOps

    height, width = size
    try:
        with Image.open(file) as opened:
            image: Image.Image = opened
            if opened.format == "JPEG" and opened.size[0] * opened.size[1] > _LARGE:
                opened.draft(None, (4 * width, 4 * height))
            image = ImageOps.exif_transpose(image) or image
            if image.mode.startswith("I"):
                values = np.asarray(image).astype(np.int64)
                image = Image.fromarray((values >> 8 if values.max() > 255 else values).astype(np.uint8))
            image = image.convert("L" if channels == 1 else "RGB")
            if image.size != (width, height):
                image = image.resize((width, height), Image.Resampling.BILINEAR)
            return np.asarray(image, np.uint8).reshape(height, width, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, MemoryError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if "cannot identify" in reason:
            reason = "it is empty" if file.stat().st_size == 0 else "it is not an image"
        raise DataError(
            f"{file} cannot be read as an image: {reason}. Remove it, or skip such files with skip_bad=True."
        ) from None


class Decoded:
    """Image files as an array that decodes what is sliced, in a few threads.   uint8 [n, h, w, channels]"""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, files: Sequence[Path], size: tuple[int, int], channels: int) -> None:
        self.files, self.size, self.channels = files, size, channels
        self.shape = (len(files), *size, channels)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: slice) -> np.ndarray:
        files = self.files[rows]
        out = np.empty((len(files), *self.shape[1:]), np.uint8)
        with _threads() as threads:
            try:
                for i, image in enumerate(threads.map(lambda f: decode(f, self.size, self.channels), files)):
                    out[i] = image
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise
        return out


@contextmanager
def _threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that decode; Pillow's remarks on metadata are left out (from here: filters are global)."""
    with warnings.catch_warnings(), ThreadPoolExecutor(_THREADS) as threads:
        warnings.simplefilter("ignore")
        yield threads


def readable(files: Sequence[Path], size: tuple[int, int], channels: int) -> tuple[np.ndarray, list[str]]:
    """Which image files can be decoded: bool [n], and what was wrong with the others."""

    def problem(file: Path) -> str:
        try:
            decode(file, size, channels)
        except DataError as error:
            return str(error)
        return ""

    with _threads() as threads:
        problems = list(threads.map(problem, files))
    return np.array([not p for p in problems]), [p for p in problems if p]


# -- the input layer's numbers


def channel_statistics(blocks: Iterator[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel, of values / 255, exact.   uint8 [m, h, w, c] blocks -> [c], [c]

    A channel that never changes has the deviation 1.

    >>> channel_statistics(iter([np.array([0, 255], np.uint8).reshape(2, 1, 1, 1)]))
    ((0.5,), (0.5,))
    """
    total: Any = 0
    levels = np.arange(256)
    for block in blocks:
        channels = [block[..., i].ravel() for i in range(block.shape[-1])]
        total = total + np.stack([np.bincount(c, minlength=256) for c in channels])  # whole numbers: exact
    counts = total.sum(1)
    mean = (total @ levels) / counts
    std = np.sqrt((total * (levels - mean[:, None]) ** 2).sum(1) / counts)
    std[(total > 0).sum(1) == 1] = 255.0
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


# -- arrays of images


def as_images(x: Any, kind: str | None) -> Any:
    """x as [n, h, w, c] with shape, dtype and slices, where it holds images; None where it does not.

    kind: "images" when a person says so; None: uint8 of three axes, or of four with 1 to 4 channels."""
    shape = tuple(x.shape[1:])
    if kind is None:
        plausible = x.dtype == np.uint8 and (
            len(shape) == 2 or (len(shape) == 3 and (shape[-1] in (1, 2, 3, 4) or shape[0] in (1, 3, 4)))
        )
        if not plausible:
            return None
    elif kind != "images":
        return None
    return image_view(x, whole_numbers=kind == "images")


def image_view(x: Any, whole_numbers: bool = True) -> Any:
    """Arrays of images in the usual layouts as [n, h, w, c]; uint8 where all values are whole and fit.

    [n, h, w], [n, h, w, c], [n, c, h, w] with 1, 3 or 4 channels, and [n, s * s] for grey squares.

    >>> image_view(np.zeros((2, 64))).shape
    (2, 8, 8, 1)
    """
    shape = tuple(int(s) for s in x.shape[1:])
    side = math.isqrt(shape[0])
    change: Callable[[np.ndarray], np.ndarray]
    if len(shape) == 1 and side * side == shape[0]:
        new, change = (side, side, 1), lambda b: b.reshape(len(b), side, side, 1)
    elif len(shape) == 2:
        new, change = (*shape, 1), lambda b: b[..., None]
    elif len(shape) == 3 and shape[-1] not in (1, 2, 3, 4) and shape[0] in (1, 3, 4):
        new, change = (shape[1], shape[2], shape[0]), lambda b: np.moveaxis(b, 1, -1)
    elif len(shape) == 3:
        new, change = shape, lambda b: b
    else:
        raise DataError(
            f"examples of shape {shape} are no images: [n, height, width], [n, height, width, channels], "
            "or [n, pixels] of grey squares are."
        )
    dtype = x.dtype
    if dtype != np.uint8 and whole_numbers and all(_are_bytes(b) for _, b in stream.blocks(x)):
        dtype = np.dtype(np.uint8)
    if new == shape and dtype == x.dtype:
        return x
    return Seen(x, new, dtype, lambda b: change(b).astype(dtype, copy=False))


def _are_bytes(block: np.ndarray) -> bool:
    if block.dtype.kind == "b":
        return True
    whole = block.dtype.kind in "iu" or bool((block == np.round(block)).all())
    return whole and bool(block.min() >= 0) and bool(block.max() <= 255)


# -- loading


def load_images(
    source: Any,
    target: str | None = None,
    *,
    valid: Any = 0.15,
    test: Any = 0.15,
    stratify: bool | None = None,
    group: Any = None,
    indices: Sequence[Any] | None = None,
    seed: int = 0,
    memory_budget: int | None = None,
    cache: str | Path | None = None,
    size: int | Sequence[int] | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """A folder of images as a Dataset: a sub-folder a class, or train/, valid/ and test/ with such folders.

    target: what to call the class. valid, test: shares, or folders with the same classes.
    size: (height, width), or one number for both; see `layout` for the default.
    skip_bad: leave out files that cannot be decoded, with a warning; else the first of them is an error.
    memory_budget, cache: as in load_arrays. Raises DataError.
    """
    options = dict(
        target=target, valid=valid, test=test, stratify=stratify, group=group, time=None, indices=indices,
        seed=seed, task=None, memory_budget=memory_budget, cache=cache,
    )  # fmt: skip
    options |= ({"size": size} if size is not None else {}) | ({"skip_bad": True} if skip_bad else {})
    listing = find(source)
    others = {p: find(s) for p, s in (("valid", valid), ("test", test)) if not isinstance(s, (int, float))}
    if others:
        listing = _joined(listing, others)
    if not listing.labels:
        raise DataError(
            f"the images of {source} lie in no class folders, so there is nothing to learn: "
            f"{Path(source).name}/CLASS/IMAGE.png is what training needs."
        )
    if len(set(listing.labels)) < 2:
        raise DataError(f"{source} has one class only, {listing.labels[0]!r}; there is nothing to tell apart.")
    wanted, channels = layout(listing.files, _size(size))
    if skip_bad:
        listing = _without_bad(listing, wanted, channels)
    notes = [*listing.notes, f"{len(listing.files):,} images as {wanted[0]} x {wanted[1]} x {channels}"]
    read = Read(
        Decoded(listing.files, wanted, channels),
        {target or "class": np.array(listing.labels, object)},
        parts=listing.parts,
        notes=tuple(notes),
    )
    return assemble_images(source, read, options, task="classes")


def assemble_images(source: Any, read: Read, options: dict[str, Any], task: str | None = None) -> Dataset:
    """The Dataset of uint8 images.   read.x: uint8 [n, h, w, c]"""
    h, w, c = (int(s) for s in read.x.shape[1:])
    empty = ImageInputs((h, w), c, (0.0,) * c, (1.0,) * c, options.get("inputs", ""))
    return assemble(
        source,
        read,
        lambda rows: empty,
        lambda spec, block, rows: np.asarray(block, np.uint8),
        lambda spec, x: empty.fitted(x),  # the encoded part has the same values; no file is decoded twice
        options,
        task=task,
    )


def _size(size: Any) -> tuple[int, int] | None:
    if size is None:
        return None
    pair = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(pair) != 2 or not all(isinstance(s, (int, np.integer)) and s >= 1 for s in pair):
        raise DataError(f"size is (height, width) in pixels, or one number for both; got {size!r}.")
    return int(pair[0]), int(pair[1])


def _joined(main: Listing, others: dict[str, Listing]) -> Listing:
    if main.parts is not None:
        raise DataError(
            f"the folder has parts of its own ({', '.join(main.parts)}); leave out valid= and test=, or give "
            "a folder without parts."
        )
    parts = {"train": main} | others
    ranges, start = {}, 0
    for name in [p for p in PARTS if p in parts]:
        if not parts[name].labels or parts[name].parts:
            raise DataError(f"the folder for the {name} part needs class folders directly below it.")
        ranges[name] = range(start, start := start + len(parts[name].files))
    found = [parts[p] for p in ranges]
    return Listing(
        tuple(f for p in found for f in p.files),
        tuple(v for p in found for v in p.labels),
        ranges,
        tuple(n for p in found for n in p.notes),
    )


def _without_bad(listing: Listing, size: tuple[int, int], channels: int) -> Listing:
    good, problems = readable(listing.files, size, channels)
    if not problems:
        return listing
    if not good.any():
        raise DataError(f"none of the {len(good)} image files can be read. The first: {problems[0]}")
    shown = ", ".join(str(f) for f, ok in zip(listing.files, good, strict=True) if not ok)
    warnings.warn(
        f"{len(problems)} of {len(good)} image files cannot be read and are skipped: {shown}",
        DataWarning,
        stacklevel=4,
    )
    before = np.concatenate([[0], np.cumsum(good)])
    return Listing(
        tuple(f for f, ok in zip(listing.files, good, strict=True) if ok),
        tuple(v for v, ok in zip(listing.labels, good, strict=True) if ok),
        None
        if listing.parts is None
        else {p: range(int(before[r.start]), int(before[r.stop])) for p, r in listing.parts.items()},
        (*listing.notes, f"{len(problems)} files that cannot be read are skipped"),
    )


# -- prediction


def _of_files(source: Any) -> bool:
    """Image files: a folder of them, one of them, or a list of paths."""
    if isinstance(source, (str, Path)):
        path = Path(source)
        if path.is_dir():
            return not readers.is_idx(path)
        return path.suffix.lower() in SUFFIXES
    if not isinstance(source, (list, tuple)) or not source:
        return False
    return all(isinstance(s, (str, Path)) and Path(s).suffix.lower() in SUFFIXES for s in source)


def _listing(source: Any) -> Listing:
    if not isinstance(source, (str, Path)):
        return Listing(tuple(Path(s) for s in source), ())
    if not Path(source).exists():
        raise readers.missing(Path(source))
    return find(source)


def file_names(source: Any) -> tuple[str, ...]:
    """The names of the image files in the order in which batches come, below the folder that was given."""
    if not _of_files(source):
        return ()
    files = _listing(source).files
    root = Path(source) if isinstance(source, (str, Path)) and Path(source).is_dir() else None
    return tuple(f.relative_to(root).as_posix() if root else str(f) for f in files)

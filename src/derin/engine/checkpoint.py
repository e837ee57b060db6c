"""Checkpoints: safetensors and a manifest, in a folder that appears whole or not at all.

    checkpoints/epoch-000012/training.safetensors    weights, running state, optimiser state, best weights, counters
    checkpoints/epoch-000012/manifest.json           format version, sha256, every array's shape and dtype, the machine

A new checkpoint is written beside the old one, synced to the disk and renamed; only then the old one goes.
Loading refuses what is missing, extra, misshapen or changed, by name. The files hold data only.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import typing
from pathlib import Path
from typing import Any

import jax
import numpy as np

from derin.errors import RunError

FORMAT = 1
_TRAINING = "training.safetensors"
_ASIDE = ".old-"


def here() -> dict[str, Any]:
    """What decides the last bits of a result: device, cores, jaxlib."""
    import jaxlib

    return {
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "machine": platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "jaxlib": jaxlib.__version__,
        "members": 1,
    }


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Every array of a tree by its path: {"params/0.weight": ...}."""
    found, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {"/".join(_step(k) for k in path): np.asarray(jax.device_get(_bits(leaf))) for path, leaf in found}


def _bits(leaf: Any) -> Any:
    """A random key as its bits; other arrays as they are."""
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _step(key: Any) -> str:
    for field in ("key", "name", "idx"):
        if hasattr(key, field):
            return str(getattr(key, field))
    return str(key)


def save(folder: Path, epoch: int, tree: Any, about: dict[str, Any]) -> Path:
    """Write the checkpoint of an epoch and drop the older ones. Raises RunError; the last good one stays."""
    from safetensors.numpy import save as to_bytes

    arrays = named_arrays(tree)
    blob = to_bytes(arrays)
    manifest = {
        "format": FORMAT,
        "epoch": epoch,
        "sha256": hashlib.sha256(blob).hexdigest(),
        "arrays": {name: [str(a.dtype), list(a.shape)] for name, a in arrays.items()},
        "here": here(),
        **about,
    }
    target = folder / f"epoch-{epoch:06d}"
    with folder_that_appears_whole(target, replaces=True) as fresh:
        write_synced(fresh / _TRAINING, blob)
        write_synced(fresh / "manifest.json", json.dumps(manifest, indent=1).encode())
    for old in [*folder.glob("epoch-*"), *folder.glob(".epoch-*")]:  # the second: left by a process that was killed
        if old != target:
            shutil.rmtree(old, ignore_errors=True)
    return target


def newest(folder: Path) -> Path | None:
    """The last whole checkpoint of a run, if there is one."""
    for pattern in ("epoch-*", f"{_ASIDE}epoch-*"):  # killed between two renames, the old one stands aside
        found = sorted(p for p in folder.glob(pattern) if (p / "manifest.json").is_file())
        if found:
            return found[-1]
    return None


def written(checkpoint: Path) -> tuple[int, int] | None:
    """Something that another checkpoint of the same name does not have; None if it is not there."""
    try:
        found = (checkpoint / "manifest.json").stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_manifest(checkpoint: Path) -> dict[str, Any]:
    """The manifest of a checkpoint. Raises RunError for a damaged one, or one of a newer derin."""
    try:
        manifest = json.loads((checkpoint / "manifest.json").read_text(encoding="utf-8"))
        version = manifest["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{checkpoint / 'manifest.json'} is damaged or missing: {error}.") from None
    if version != FORMAT:
        raise RunError(
            f"{checkpoint} has format {version}; this derin reads format {FORMAT}. "
            "It was written by another version of derin: upgrade with `pip install --upgrade derin`."
        )
    return manifest


def load(checkpoint: Path, like: Any = None) -> tuple[Any, dict[str, Any]]:
    """The arrays of a checkpoint, checked against its manifest and against `like` (a tree of shapes).

    With like=None the arrays come back as a dict by name. Raises RunError that names what is wrong.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    manifest = read_manifest(checkpoint)
    file = checkpoint / _TRAINING
    try:
        blob = file.read_bytes()
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from None
    if hashlib.sha256(blob).hexdigest() != manifest["sha256"]:
        raise RunError(
            f"{file} is not what was written ({len(blob)} bytes; its sha256 differs from the manifest's): "
            "it is truncated or was edited."
        )
    try:
        arrays = from_bytes(blob)
    except SafetensorError as error:
        raise RunError(f"{file} is not a safetensors file: {error}.") from None
    if like is None:
        return arrays, manifest
    found, tree = jax.tree_util.tree_flatten_with_path(like)
    keys = {"/".join(_step(k) for k in path): leaf for path, leaf in found}
    wanted = {name: jax.eval_shape(_bits, leaf) if _is_key(leaf) else leaf for name, leaf in keys.items()}
    problems = compare(arrays, wanted)
    if problems:
        raise RunError(f"{file} belongs to another net: " + "; ".join(problems[:6]) + ".")
    back = [
        jax.random.wrap_key_data(jax.numpy.asarray(arrays[n])) if _is_key(leaf) else arrays[n]
        for n, leaf in keys.items()
    ]
    return jax.tree.unflatten(tree, back), manifest


def compare(arrays: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What is missing, extra or misshapen, a line each."""
    problems = [f"{name!r} is missing" for name in wanted if name not in arrays]
    problems += [f"{name!r} is not part of this net" for name in arrays if name not in wanted]
    for name, want in wanted.items():
        if name in arrays and (arrays[name].shape, arrays[name].dtype) != (want.shape, want.dtype):
            have = arrays[name]
            problems.append(
                f"{name!r} is {have.dtype}{list(have.shape)}, this net needs {want.dtype}{list(want.shape)}"
            )
    return problems


# -- files that appear whole


class folder_that_appears_whole:
    """`with folder_that_appears_whole(path) as fresh:` fill `fresh`; it becomes `path` at the end, or vanishes.

    A folder that is there already is an error, or with replaces=True goes once the new one has its name.
    """

    def __init__(self, target: Path, replaces: bool = False) -> None:
        self.target, self.replaces = target, replaces

    def __enter__(self) -> Path:
        self.made = missing_parents(self.target)
        try:
            self.target.parent.mkdir(parents=True, exist_ok=True)
            self.fresh = Path(tempfile.mkdtemp(prefix=f".{self.target.name}-", dir=self.target.parent))
            self.fresh.chmod(0o755)
        except OSError as error:
            remove_empty(self.made)
            file = next((p for p in self.target.parents if p.is_file()), None)
            why = f"{file} is a file, not a folder" if file else error.strerror
            raise RunError(f"cannot write {self.target}: {why}.") from None
        return self.fresh

    def __exit__(self, kind: Any, error: Any, trace: Any) -> typing.Literal[False]:
        try:
            if kind is None:
                _sync_folder(self.fresh)
                aside = self.target.with_name(_ASIDE + self.target.name)
                if self.replaces and self.target.exists():
                    shutil.rmtree(aside, ignore_errors=True)
                    os.rename(self.target, aside)
                if os.name == "nt" and self.target.is_dir():
                    self.target.rmdir()  # elsewhere an empty folder is replaced
                os.rename(self.fresh, self.target)  # refuses a folder that holds something
                _sync_folder(self.target.parent)
                shutil.rmtree(aside, ignore_errors=True)
                for left in self.target.parent.glob(f".{self.target.name}-{'[a-z0-9_]' * 8}"):  # by a killed process
                    shutil.rmtree(left, ignore_errors=True)
                return False
        except OSError as failed:
            shutil.rmtree(self.fresh, ignore_errors=True)
            remove_empty(self.made)
            raise RunError(f"cannot write {self.target}: {failed.strerror}.") from None
        shutil.rmtree(self.fresh, ignore_errors=True)
        remove_empty(self.made)
        if isinstance(error, OSError):
            raise RunError(f"cannot write {self.target}: {error.strerror}.") from None
        return False


def missing_parents(path: Path) -> list[Path]:
    """The folders that must be made before path can be, the deepest first."""
    return [folder for folder in path.parents if not folder.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Take folders away again, the deepest first, as long as nothing is in them."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: Path, data: bytes) -> None:
    """Put new content in a file: the old or the new is there, never a part. Raises RunError."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        write_synced(fresh, data)
        os.replace(fresh, path)
        _sync_folder(path.parent)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror}.") from None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Data over the memory budget: the same numbers from files, and chunks that are read ahead."""

import errno
import gc
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derin import data
from derin.data import stream
from derin.errors import DataError


def same_but_on_disk(source, cache, **options):
    """Loading over the budget gives the bits that loading in memory gives, in read-only mapped files."""
    whole = data.load(source, **options)
    streamed = data.load(source, memory_budget=100, cache=cache, **options)
    assert not isinstance(whole.train.x, np.memmap)
    for name, part in streamed.parts.items():
        expected = whole.parts[name]
        assert isinstance(part.x, np.memmap) == (len(part.rows) > 0)
        assert np.array_equal(part.x, expected.x) and part.x.dtype == expected.x.dtype
        assert np.array_equal(part.rows, expected.rows)
        for y, z in zip(np.atleast_2d(part.y), np.atleast_2d(expected.y), strict=True):
            assert np.array_equal(y, z)
    assert streamed.schema == whole.schema
    assert streamed.fingerprint == whole.fingerprint
    assert any("stream from disk" in note for note in streamed.notes)
    with pytest.raises(ValueError, match="read-only"):
        streamed.train.x[0] = 0
    return streamed


def many_rows(n=3000, d=40, seed=0):
    random = np.random.default_rng(seed)
    return random.normal(3, 9, (n, d)), random.integers(0, 3, n)


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that small data have many."""
    monkeypatch.setattr(stream, "_BLOCK", 2000)


def test_arrays(tmp_path, small_blocks):
    same_but_on_disk(many_rows(), tmp_path)


def test_arrays_with_gaps(tmp_path, small_blocks):
    x, y = many_rows(500, 5)
    x[::7, 2] = np.nan
    with pytest.warns(data.DataWarning):
        found = same_but_on_disk((x, y), tmp_path)
    assert found.train.x.shape[1] == 6


def test_blocks_decide_nothing_but_rounding(monkeypatch):
    x, y = many_rows(500, 5)
    whole = data.load((x, y))
    monkeypatch.setattr(stream, "_BLOCK", 100)
    assert np.allclose(data.load((x, y)).train.x, whole.train.x, atol=1e-6)


def test_several_targets(tmp_path, small_blocks):
    x, y = many_rows(200, 3)
    same_but_on_disk((x, {"a": x[:, 0], "b": y}), tmp_path)


def test_indices_in_any_order(tmp_path, small_blocks):
    x, y = many_rows(300, 4)
    order = np.random.default_rng(1).permutation(300)
    same_but_on_disk((x, y), tmp_path, indices=(order[:200], order[200:220], order[220:]))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, small_blocks, save):
    x, y = many_rows(400, 20)
    save(tmp_path / "a.npz", X=x, y=y)
    same_but_on_disk(tmp_path / "a.npz", tmp_path)


def test_npy(tmp_path, small_blocks):
    x, y = many_rows(400, 20)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    same_but_on_disk(tmp_path / "x.npy", tmp_path, target=str(tmp_path / "y.npy"))


def test_hdf5(tmp_path, small_blocks):
    h5py = pytest.importorskip("h5py")
    x, y = many_rows(400, 20)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = x, y
    same_but_on_disk(tmp_path / "a.h5", tmp_path)


def test_large_files_are_never_whole_in_memory(tmp_path, monkeypatch):
    """_rows() keeps small arrays; above its limit every read is a slice of at most a block."""
    h5py = pytest.importorskip("h5py")
    x = np.random.default_rng(0).normal(size=(40000, 60)).astype(np.float32)  # 9.6 MB
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["x"], file["y"] = x, np.arange(40000) % 3
    monkeypatch.setattr("derin.data.readers._SMALL", 1000)
    import tracemalloc

    tracemalloc.start()
    found = data.load(tmp_path / "a.h5", memory_budget=10**6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    monkeypatch.undo()
    assert peak < 80e6  # blocks of 4 MiB as float64 and their temporaries, rows and labels
    assert isinstance(found.train.x, np.memmap)
    assert found.fingerprint == data.load(tmp_path / "a.h5").fingerprint


def test_images(tmp_path, small_blocks, shared_data):
    same_but_on_disk(shared_data / "images" / "mnist_png_sample", tmp_path)


def test_tables(tmp_path):
    pl = pytest.importorskip("polars")
    random = np.random.default_rng(0)
    n = 800
    frame = pl.DataFrame(
        {
            "size": random.normal(50, 9, n),
            "town": random.choice(["Izmir", "Ankara", "Bursa"], n),
            "rooms": [None if i % 9 == 0 else int(i % 5) for i in range(n)],
            "price": random.normal(100, 20, n),
        }
    )
    frame.write_csv(tmp_path / "homes.csv")
    frame.write_parquet(tmp_path / "homes.parquet")
    same_but_on_disk(tmp_path / "homes.csv", tmp_path, target="price")
    same_but_on_disk(tmp_path / "homes.parquet", tmp_path, target="price")


# -- files


def test_files_go_when_they_are_no_longer_used(tmp_path):
    found = data.load(many_rows(), memory_budget=100, cache=tmp_path)
    assert len(list(tmp_path.rglob("*.npy"))) == 3
    train = found.train.x[5:10]
    del found
    gc.collect()
    assert [p.name for p in tmp_path.rglob("*.npy")] == ["train.x.npy"]  # a view is still used
    del train
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_no_room(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(DataError, match=r"take 468\.8 KiB, but .* has 1000 bytes free. Give cache=FOLDER"):
        data.load(many_rows(), memory_budget=100, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hasattr(stream.os, "posix_fallocate"), reason="this system reserves no room for files")
def test_a_disk_that_fills(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stream.os, "posix_fallocate", full)
    with pytest.raises(DataError, match="Give cache=FOLDER on a larger disk"):
        data.load(many_rows(), memory_budget=100, cache=tmp_path)
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written to"):
        data.load(many_rows(), memory_budget=100, cache=tmp_path / "file")


def test_an_error_in_the_middle_leaves_nothing_behind(tmp_path, shared_data):
    import shutil

    root = tmp_path / "images"
    for name in ("0", "1"):
        shutil.copytree(shared_data / "images" / "mnist_png_sample" / name, root / name)
    victim = sorted((root / "1").iterdir())[-1]
    victim.chmod(0o644)
    victim.write_bytes(b"no image")
    with pytest.raises(DataError, match=victim.name):
        data.load(root, memory_budget=100, cache=tmp_path / "cache")
    gc.collect()
    assert list((tmp_path / "cache").iterdir()) == []


# -- chunks


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 50), st.integers(1, 20), st.integers(0, 99), st.booleans())
def test_chunks_are_the_rows_in_order(n, size, seed, several):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(n, 3)), random.normal(size=n)
    part = data.Part(x, (y, -y) if several else y, np.arange(n))
    order = random.permutation(n)
    found = list(stream.chunks(part, order, size))
    assert [len(c[0]) for c in found] == [size] * (n // size) + ([n % size] if n % size else [])
    if n:
        assert np.array_equal(np.concatenate([c[0] for c in found]), x[order])
        ys = [c[1][1] if several else c[1] for c in found]
        assert np.array_equal(np.concatenate(ys), (-y if several else y)[order])


def test_chunks_of_mapped_files(tmp_path):
    x, y = many_rows(1000, 8)
    whole = data.load((x, y))
    streamed = data.load((x, y), memory_budget=100, cache=tmp_path)
    n = len(whole.train.rows)
    for order in (
        np.random.default_rng(0).permutation(n),
        np.arange(n),
        np.arange(n)[::-1],
        np.zeros(5, int),
    ):
        found = list(stream.chunks(streamed.train, order, 64))
        assert np.array_equal(np.concatenate([c[0] for c in found]), whole.train.x[order])
        assert np.array_equal(np.concatenate([c[1] for c in found]), whole.train.y[order])
        assert not any(isinstance(c[0], np.memmap) for c in found)  # read now, not later by the device


class Slow:
    """An array that takes its time, and notes when it was read."""

    def __init__(self, n, fails_at=None):
        self.reads, self.fails_at, self.n = [], fails_at, n

    def __getitem__(self, rows):
        time.sleep(0.05)
        self.reads.append((int(rows[0]), threading.current_thread().name))
        if self.fails_at is not None and rows[0] >= self.fails_at:
            raise OSError("the disk is gone")
        return rows


def slow_part(n, **options):
    return SimpleNamespace(x=Slow(n, **options), y=np.arange(n))


def readers_running():
    return [t for t in threading.enumerate() if t.name.startswith("derin-reader")]


def test_the_next_chunk_is_read_meanwhile_and_no_further():
    part = slow_part(50)
    seen = 0
    for x, _ in stream.chunks(part, np.arange(50), 10):
        time.sleep(0.15)
        seen += 1
        assert len(part.x.reads) == min(seen + 1, 5)
        assert x[0] == 10 * (seen - 1)
    assert seen == 5
    assert all(name.startswith("derin-reader") for _, name in part.x.reads)
    assert not readers_running()


def test_leaving_early_ends_the_thread():
    chunks = stream.chunks(slow_part(100), np.arange(100), 10)
    next(chunks)
    chunks.close()
    assert not readers_running()

    with pytest.raises(KeyError):
        for _ in stream.chunks(slow_part(100), np.arange(100), 10):
            raise KeyError("in the caller")
    gc.collect()
    assert not readers_running()


def test_an_error_while_reading_reaches_the_caller():
    seen = []
    with pytest.raises(OSError, match="the disk is gone"):
        for x, _ in stream.chunks(slow_part(50, fails_at=20), np.arange(50), 10):
            seen.append(int(x[0]))
    assert seen == [0, 10]
    assert not readers_running()


def test_chunks_need_a_size():
    with pytest.raises(DataError, match="rows_per_chunk"):
        next(stream.chunks(slow_part(5), np.arange(5), 0))


def test_the_default_budget_is_a_quarter_of_the_least_there_is(monkeypatch):
    assert 2**28 <= stream.default_budget() < 2**50
    assert not stream.Space(2**20).on_disk
    limit = {"/sys/fs/cgroup/memory.max": str(6 * 2**30)}
    monkeypatch.setattr(stream.Path, "read_text", lambda path: limit.get(str(path), "max"))
    monkeypatch.setattr(stream.os, "sysconf", lambda name: 2**20)
    assert stream.default_budget() == 6 * 2**30 // 4  # a container's
    limit["/sys/fs/cgroup/memory.max"] = str(2**20)
    assert stream.default_budget() == stream.budget_for(1000) == 2**28

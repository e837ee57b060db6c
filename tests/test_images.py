"""Folders of images: which files, how they are decoded, and what is refused."""

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from derin import data
from derin.data import images
from derin.data.images import ImageInputs, decode, find, layout
from derin.errors import DataError
from derin.spec import from_json, to_json

Image = pytest.importorskip("PIL.Image")
ALL = {"valid": 0, "test": 0}


def write(path: Path, pixels: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def pixels(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def folder(root: Path, classes=("cat", "dog"), each=6, shape=(10, 8, 3), end=".png") -> Path:
    for c, name in enumerate(classes):
        for i in range(each):
            write(root / name / f"{i}{end}", pixels(shape, 100 * c + i))
    return root


def same(a, b):
    assert a.fingerprint == b.fingerprint and a.schema == b.schema


# -- which files


def test_classes_are_folders_and_files_come_in_natural_order(tmp_path):
    folder(tmp_path / "set", each=12)
    (tmp_path / "set" / "LICENSE").write_text("words")
    (tmp_path / "set" / "cat" / "notes.txt").write_text("words")
    (tmp_path / "set" / "cat" / ".hidden.png").write_bytes(b"nothing")
    (tmp_path / "set" / ".cache").mkdir()
    found = find(tmp_path / "set")
    assert [f.name for f in found.files] == [f"{i}.png" for i in range(12)] * 2
    assert found.labels == ("cat",) * 12 + ("dog",) * 12
    assert found.parts is None and found.notes == ()


def test_folders_below_a_class_and_empty_ones(tmp_path):
    folder(tmp_path / "set")
    write(tmp_path / "set" / "cat" / "black" / "1.png", pixels((10, 8, 3)))
    (tmp_path / "set" / "empty").mkdir()
    write(tmp_path / "set" / "loose.png", pixels((10, 8, 3)))
    found = find(tmp_path / "set")
    assert found.labels.count("cat") == 7
    assert found.notes == (
        "folders without images: empty",
        "left out: 1 images that lie in no class folder, loose.png first",
    )


def test_parts_are_folders(tmp_path):
    root = tmp_path / "set"
    folder(root / "train", each=5)
    folder(root / "Validation", each=2)
    folder(root / "test", each=3)
    folder(root / "extra", each=1)
    found = data.load(root)
    assert [len(part.rows) for part in found.parts.values()] == [10, 4, 6]
    assert found.valid.y.tolist() == [0, 0, 1, 1]
    assert "left out: extra beside train" in found.notes
    with pytest.raises(DataError, match="parts of its own"):
        data.load(root, test=root / "extra")


def test_a_part_without_classes_is_left_out(tmp_path):
    folder(tmp_path / "train", each=5)
    write(tmp_path / "test" / "1.png", pixels((10, 8, 3)))
    found = data.load(tmp_path, **ALL)
    assert len(found.train.rows) == 10
    assert "left out: test, whose images lie in no class folders" in found.notes


def test_separate_folders(tmp_path):
    folder(tmp_path / "a", each=5)
    folder(tmp_path / "b", each=2)
    found = data.load(tmp_path / "a", test=tmp_path / "b", valid=0)
    assert found.test.rows.tolist() == [10, 11, 12, 13]
    assert np.array_equal(found.test.x[0], found.train.x[0])
    same(data.load(found.source, **found.options), found)


def test_a_folder_called_train_may_be_a_class(tmp_path):
    folder(tmp_path, classes=("train", "bus"))
    assert set(find(tmp_path).labels) == {"train", "bus"}


# -- decoding


def test_round_trip(tmp_path):
    found = data.load(folder(tmp_path), **ALL)
    expected = np.stack([pixels((10, 8, 3), 100 * c + i) for c in (0, 1) for i in range(6)])
    assert np.array_equal(found.train.x, expected) and found.train.x.dtype == np.uint8
    assert found.train.y.tolist() == [0] * 6 + [1] * 6
    assert found.schema.targets[0] == data.ClassTarget("class", ("cat", "dog"))
    inputs = found.schema.inputs
    assert np.allclose(inputs.mean, expected.mean((0, 1, 2)) / 255, atol=1e-12)
    assert np.allclose(inputs.std, expected.std((0, 1, 2)) / 255, atol=1e-12)
    assert from_json(to_json(found.schema)) == found.schema
    assert "10 x 8 RGB" in repr(found)


def test_the_input_layer_is_fitted_on_the_training_part(tmp_path):
    found = data.load(folder(tmp_path, each=20, shape=(4, 4)))
    y, _ = found.input_layer().apply({}, {}, found.train.x)
    assert np.allclose(np.mean(y), 0, atol=1e-4) and np.allclose(np.std(y), 1, atol=1e-4)
    mean, std = found.train.x.mean() / 255, found.train.x.std() / 255
    z, _ = found.input_layer().apply({}, {}, found.test.x)
    assert np.allclose(z, (found.test.x / 255 - mean) / std, atol=1e-5)


def test_an_image_of_one_colour(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "1.png", np.full((4, 4), 9, np.uint8))
        write(tmp_path / name / "2.png", np.full((4, 4), 9, np.uint8))
    found = data.load(tmp_path, **ALL)
    assert found.schema.inputs.std == (1.0,)
    y, _ = found.input_layer().apply({}, {}, found.train.x)
    assert np.allclose(y, 0, atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_is_brought_to_the_channels(tmp_path, mode, channels):
    grey = np.tile(np.arange(0, 256, 32, dtype=np.uint8), (8, 1))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    else:
        image = Image.fromarray(np.repeat(grey[..., None], 3, 2)).convert(mode)
    image.save(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"))
    found = decode(next(tmp_path.iterdir()), (8, 8), channels)
    assert found.shape == (8, 8, channels) and found.dtype == np.uint8
    if mode not in ("1", "CMYK", "P"):
        assert np.array_equal(found, np.repeat(grey[..., None], channels, 2))


def test_grey_and_colour_together_are_colour(tmp_path):
    write(tmp_path / "a" / "1.png", pixels((6, 6)))
    write(tmp_path / "b" / "1.png", pixels((6, 6, 3)))
    assert layout(find(tmp_path).files) == ((6, 6), 3)
    write(tmp_path / "b" / "1.png", pixels((6, 6)))
    assert layout(find(tmp_path).files) == ((6, 6), 1)


def test_size(tmp_path):
    for i, shape in enumerate([(100, 300), (200, 400), (120, 500)]):
        write(tmp_path / f"{i % 2}" / f"{i}.png", pixels(shape))
    write(tmp_path / "1" / "9.png", pixels((120, 400)))
    files = find(tmp_path).files
    assert layout(files)[0] == (19, 64)  # the median, 120 x 400, down to 64
    assert data.load(tmp_path, size=12, **ALL).train.x.shape == (4, 12, 12, 1)
    found = data.load(tmp_path, size=(5, 7), **ALL)
    assert found.train.x.shape == (4, 5, 7, 1)
    expected = Image.open(files[0]).resize((7, 5), Image.Resampling.BILINEAR)
    assert np.array_equal(found.train.x[0, ..., 0], np.asarray(expected))
    same(data.load(found.source, **found.options), found)
    with pytest.raises(DataError, match="size is"):
        data.load(tmp_path, size=0)


def test_sizes_that_all_share(tmp_path):
    write(tmp_path / "big" / "1.png", pixels((150, 300)))
    assert layout([tmp_path / "big" / "1.png"])[0] == (32, 64)
    write(tmp_path / "big" / "1.png", pixels((96, 128)))
    assert layout([tmp_path / "big" / "1.png"])[0] == (96, 128)


def test_photographs_that_lie_on_their_side(tmp_path):
    values = np.zeros((16, 32), np.uint8)
    values[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    write(tmp_path / "a.jpg", values, exif=exif, quality=100)
    assert layout([tmp_path / "a.jpg"])[0] == (32, 16)
    turned = decode(tmp_path / "a.jpg", (32, 16), 1)[..., 0]
    assert turned[:12].min() > 200 and turned[20:].max() < 50


def test_large_photographs_are_decoded_small(tmp_path):
    across = np.linspace(0, 255, 2000).astype(np.uint8)
    write(tmp_path / "a.jpg", np.tile(across, (1500, 1)), quality=95)
    found = decode(tmp_path / "a.jpg", (30, 40), 1)[..., 0].astype(float)
    assert np.abs(found - np.linspace(3, 252, 40)).max() < 4


# -- bad files


def bad_folder(root: Path) -> Path:
    folder(root)
    write(root / "cat" / "photo.jpg", pixels((40, 40, 3)))
    whole = (root / "cat" / "photo.jpg").read_bytes()
    (root / "cat" / "photo.jpg").write_bytes(whole[: len(whole) // 2])
    (root / "dog" / "empty.png").write_bytes(b"")
    (root / "dog" / "words.png").write_text("not an image")
    return root


@pytest.mark.parametrize(
    "name, reason",
    [
        ("cat/photo.jpg", "truncated"),
        ("dog/empty.png", "it is empty"),
        ("dog/words.png", "it is not an image"),
    ],
)
def test_a_bad_image_is_named(tmp_path, name, reason):
    bad_folder(tmp_path)
    for other in {"cat/photo.jpg", "dog/empty.png", "dog/words.png"} - {name}:
        (tmp_path / other).unlink()
    with pytest.raises(DataError, match=rf"{name} cannot be read as an image: .*{reason}.*skip_bad=True"):
        data.load(tmp_path)


def test_bad_images_are_skipped_on_request(tmp_path):
    bad_folder(tmp_path)
    with pytest.warns(data.DataWarning, match=r"3 of 15 image files .* skipped: .*photo.jpg.*empty.png.*words.png"):
        found = data.load(tmp_path, skip_bad=True, size=(10, 8), **ALL)
    assert len(found.train.rows) == 12 and found.train.y.tolist() == [0] * 6 + [1] * 6
    assert np.array_equal(found.train.x[6], pixels((10, 8, 3), 100))
    assert found.notes == ("3 files that cannot be read are skipped", "12 images as 10 x 8 x 3")
    with pytest.warns(data.DataWarning):
        same(data.load(found.source, **found.options), found)


def test_bad_images_in_parts(tmp_path):
    bad_folder(tmp_path / "train")
    folder(tmp_path / "test", each=2)
    with pytest.warns(data.DataWarning, match="3 of 19"):
        found = data.load(tmp_path, skip_bad=True, valid=0)
    assert (len(found.train.rows), len(found.test.rows)) == (12, 4)
    assert found.test.y.tolist() == [0, 0, 1, 1]


def test_nothing_but_bad_images(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_text("no")
        (tmp_path / name / "2.png").write_text("no")
    with pytest.raises(DataError, match="cannot be read as an image"):
        data.load(tmp_path, **ALL)
    with pytest.raises(DataError, match="none of the 4 image files"):
        data.load(tmp_path, skip_bad=True)


def test_bad_folders(tmp_path):
    folder(tmp_path / "one", classes=("cat",))
    with pytest.raises(DataError, match="one class only, 'cat'"):
        data.load(tmp_path / "one")
    with pytest.raises(DataError, match="lie in no class folders"):
        data.load(tmp_path / "one" / "cat")
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="neither images nor idx"):
        data.load(tmp_path / "none")
    folder(tmp_path / "new", classes=("cat", "mouse"))
    folder(tmp_path / "set")
    with pytest.raises(DataError, match=r"'mouse' .* is not a class"):
        data.load(tmp_path / "set", test=tmp_path / "new")
    with pytest.raises(DataError, match="no option 'sise'"):
        data.load(tmp_path / "set", sise=3)


def test_without_pillow(tmp_path, monkeypatch):
    folder(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(DataError, match="pip install pillow"):
        data.load(tmp_path)


# -- prediction


def test_batches_of_folders_and_files(tmp_path):
    root = folder(tmp_path / "set", each=7)
    found = data.load(root, **ALL)
    batches = list(found.schema.batches(root, rows=4, labelled=True))
    assert [len(b.x) for b in batches] == [4, 4, 4, 2]
    assert np.array_equal(np.concatenate([b.x for b in batches]), found.train.x)
    assert np.array_equal(np.concatenate([b.y for b in batches]), found.train.y)
    loose = next(found.schema.batches(root / "dog"))
    assert np.array_equal(loose.x, found.train.x[7:]) and loose.y is None
    one = next(found.schema.batches(root / "dog" / "3.png"))
    assert np.array_equal(one.x, found.train.x[10:11])
    some = next(found.schema.batches([root / "dog" / "3.png", root / "cat" / "0.png"]))
    assert np.array_equal(some.x, found.train.x[[10, 0]])
    with pytest.raises(DataError, match="without classes nothing can be scored"):
        next(found.schema.batches(root / "dog", labelled=True))
    with pytest.raises(DataError, match="does not exist"):
        next(found.schema.batches(root / "fox"))


def test_other_sizes_are_resized_in_files_and_refused_in_arrays(tmp_path):
    found = data.load(folder(tmp_path / "set"), **ALL)
    write(tmp_path / "big.png", pixels((50, 60)))
    batch = next(found.schema.batches(tmp_path / "big.png"))
    assert batch.x.shape == (1, 10, 8, 3)
    assert np.array_equal(next(found.schema.batches(found.train.x)).x, found.train.x)
    assert np.array_equal(found.schema.encode(found.train.x.astype(float)), found.train.x)
    with pytest.raises(DataError, match=r"shape \(50, 60, 3\) came; .* \(10, 8, 3\)"):
        found.schema.encode(np.zeros((1, 50, 60, 3), np.uint8))
    with pytest.raises(DataError, match="whole numbers from 0 to 255"):
        found.schema.encode(found.train.x / 255)


def test_file_names(tmp_path):
    root = folder(tmp_path / "set", each=2)
    assert images.file_names(root) == ("cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png")
    assert images.file_names(root / "cat" / "0.png") == (str(root / "cat" / "0.png"),)
    assert images.file_names(np.zeros(3)) == ()


# -- real sets


def test_mnist_png_sample(shared_data):
    found = data.load(shared_data / "images" / "mnist_png_sample")
    assert [len(p.rows) for p in found.parts.values()] == [420, 90, 90]
    assert found.train.x.shape[1:] == (28, 28, 1)
    assert np.bincount(found.train.y).tolist() == [42] * 10
    assert np.allclose(found.schema.inputs.mean, 0.13, atol=0.01)


def test_cats_dogs_loads_in_seconds(shared_data):
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = data.load(shared_data / "images" / "cats_dogs")
    assert time.perf_counter() - start < 20  # 1.5 seconds on two idle cores
    assert found.train.x.shape[0] == 350 and found.train.x.shape[3] == 3
    assert max(found.train.x.shape[1:3]) == 64
    assert found.schema.targets[0].labels == ("cat", "dog")
    assert isinstance(found.schema.inputs, ImageInputs)

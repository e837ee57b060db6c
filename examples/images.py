"""A folder of images, a sub-folder a class: train a small convolutional net and name new images.

    python examples/images.py

It draws its images first: squares and discs of any size, place and shade.
"""

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import derin


def draw(kind: str, random: np.random.Generator) -> Image.Image:
    """One grey image of 20 x 20 with a square or a disc in it."""
    radius, (row, column) = random.integers(4, 8), random.integers(8, 12, 2)
    y, x = np.ogrid[:20, :20]
    far = np.hypot(y - row, x - column) if kind == "disc" else np.maximum(abs(y - row), abs(x - column))
    shade = random.integers(90, 255)
    return Image.fromarray(np.where(far < radius, shade, random.integers(0, 60, (20, 20))).astype(np.uint8))


if __name__ == "__main__":
    folder, random = Path(tempfile.mkdtemp()), np.random.default_rng(0)
    for kind in ("disc", "square"):
        (folder / "train" / kind).mkdir(parents=True)
        for i in range(300):
            draw(kind, random).save(folder / "train" / kind / f"{i}.png")
    draw("disc", random).save(folder / "new.png")

    data = derin.data.load(folder / "train")
    print(data)
    nn = derin.nn
    net = nn.Sequential(
        nn.Conv2d(8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(1),
    )  # fmt: skip
    run = derin.fit(net, data, epochs=15, batch_size=32, optimizer=derin.optim.Adam(3e-3), progress=False)
    print(f"accuracy {run.evaluate('test')['accuracy']:.3f}")
    print(f"new.png is a {run.predict(folder / 'new.png')[0]}")

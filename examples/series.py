"""Which series is it? LSTM, GRU and Conv1d on sets of the UCR archive (S3.20, S3.21, S3.22).

    python examples/series.py FOLDER [EPOCHS [SET ...]]      # FOLDER/GunPoint/GunPoint_TRAIN.ts, ...

Test accuracy after 150 epochs; nothing is chosen by it:

                     GunPoint ItalyPowerDemand     BasicMotions   JapaneseVowels             mean
    LSTM                0.860            0.965            0.900            0.943            0.917
    GRU                 0.813            0.968            0.975            0.932            0.922
    Conv1d              0.987            0.962            1.000            0.984            0.983
"""

import sys
from pathlib import Path

import numpy as np

import derin
from derin import nn, optim

SETS = ("GunPoint", "ItalyPowerDemand", "BasicMotions", "JapaneseVowels")


def read(file: Path) -> tuple[list[np.ndarray], list[str]]:
    """Series [time, channels] and labels of a .ts file: channels between colons, the label last."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line and line[0] not in "#@"]
    rows = [line.split(":") for line in lines]
    return [np.array([c.split(",") for c in row[:-1]], "float32").T for row in rows], [row[-1] for row in rows]


def padded(series: list[np.ndarray], time: int) -> np.ndarray:
    """One array; short series begin later, so that the last step is always theirs.   -> [n, time, channels]"""
    return np.stack([np.pad(s, ((time - len(s), 0), (0, 0)), mode="edge") for s in series])


def nets(classes: int) -> dict[str, nn.Module]:
    block = lambda width, kernel: (nn.Conv1d(width, kernel, padding="same", bias=False), nn.BatchNorm(), nn.ReLU())  # noqa: E731
    conv = nn.Sequential(*block(64, 7), *block(128, 5), *block(64, 3), nn.GlobalAvgPool(), nn.Linear(classes))
    return {
        "LSTM": nn.Sequential(nn.LastStep(nn.LSTM(64, bidirectional=True)), nn.Dropout(0.3), nn.Linear(classes)),
        "GRU": nn.Sequential(nn.LastStep(nn.GRU(64, bidirectional=True)), nn.Dropout(0.3), nn.Linear(classes)),
        "Conv1d": conv,  # the fully convolutional net of Wang et al. 2017, arXiv:1611.06455, half as wide
    }


if __name__ == "__main__":
    folder, epochs, sets = Path(sys.argv[1]), int((sys.argv[2:] or ["150"])[0]), sys.argv[3:] or SETS
    table: dict[str, list[float]] = {name: [] for name in nets(2)}
    for name in sets:
        (a, p), (b, q) = (read(folder / name / f"{name}_{part}.ts") for part in ("TRAIN", "TEST"))
        time, n = max(map(len, a + b)), len(a)
        data = derin.data.load((padded(a + b, time), np.array(p + q)), indices=(range(n), [], range(n, n + len(b))))
        for kind, net in nets(len(set(p))).items():
            run = derin.fit(net, data, epochs=epochs, batch_size=16, optimizer=optim.AdamW(2e-3), progress=False,
                            schedule=optim.CosineAnnealingLR(), clip=optim.ClipByGlobalNorm(1.0))  # fmt: skip
            table[kind].append(run.evaluate("test")["accuracy"])
    print(" " * 8, *(f"{name:>16}" for name in (*sets, "mean")))
    for kind, found in table.items():
        print(f"{kind:8}", *(f"{v:16.3f}" for v in (*found, np.mean(found))))

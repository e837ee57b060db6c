"""Forecast the next day of a series, and compare with saying that it will be as yesterday (or a week, a year ago).

    python examples/forecast.py ETTh1.csv OT 24              # hourly: the next 24 hours, a day is the season
    python examples/forecast.py daily-min-temperatures.csv Temp 1 365

It prints, for the last fifth of each series, which it has not seen:

    as a season ago  rmse 2.241  mae 1.716         ETTh1, the oil's temperature
    derin            rmse 1.755  mae 1.292
    as a season ago  rmse 3.706  mae 2.944         daily temperatures
    derin            rmse 2.247  mae 1.747
"""

import sys

import numpy as np
import polars as pl

import derin
from derin import nn, optim


def windows(series: np.ndarray, past: int, ahead: int) -> tuple[np.ndarray, np.ndarray]:
    """What was seen and what came next, at every moment.   [t] -> [n, past], [n, ahead]"""
    both = np.lib.stride_tricks.sliding_window_view(series, past + ahead)
    return both[:, :past], both[:, past:]


if __name__ == "__main__":
    file, column, ahead = sys.argv[1], sys.argv[2], int(sys.argv[3])
    season = int(sys.argv[4]) if len(sys.argv) > 4 else ahead
    series = pl.read_csv(file)[column].cast(pl.Float64).to_numpy()
    past = max(96, 2 * ahead)
    x, y = windows(series, past, ahead)
    level = x[:, -1:]  # the net learns the change from the last value: levels of the future need not occur in the past
    n, end = len(x), past + ahead
    parts = [np.r_[: n * 7 // 10 - end], np.r_[n * 7 // 10 : n * 8 // 10 - end], np.r_[n * 8 // 10 : n]]  # none overlap
    used, test = np.concatenate(parts), parts[2]
    targets = {f"+{h + 1}": (y - level)[used, h] for h in range(ahead)}
    indices = np.split(np.arange(len(used)), np.cumsum([len(p) for p in parts])[:2])
    data = derin.data.load(((x - level)[used], targets), indices=indices)
    net = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(ahead))
    run = derin.fit(net, data, epochs=40, batch_size=64, optimizer=optim.AdamW(1e-3, weight_decay=0.1),
                    early_stopping=derin.EarlyStopping(8), progress=False)  # fmt: skip
    found = run.predict((x - level)[test])
    forecast = level[test] + np.stack(found if isinstance(found, tuple) else (found,), 1)
    ago = np.stack([series[test + past + h - season * (1 + h // season)] for h in range(ahead)], 1)
    for name, guess in (("as a season ago", ago), ("derin", forecast)):
        error = guess - y[test]
        print(f"{name:16} rmse {np.sqrt(np.mean(error**2)):.3f}  mae {np.mean(np.abs(error)):.3f}")

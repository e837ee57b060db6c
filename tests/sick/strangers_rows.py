"""Strangers whose rows are at fault: imbalance, shuffled labels, leaks, drift, copies.

Where what is at fault makes the figures better than they are (leaks, copies), they are worse without it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import strangers_data as of
from bed import changed, fit, mlp
from strangers import case, flat, images, waves

import derin
from derin import optim
from derin.data import Dataset


@case("class imbalance ignored")
def imbalance_old_shellfish(cured: bool = False) -> Any:
    # one in sixteen is old, and its measures overlap with the others': none of them is found
    x, rings, _ = of.shellfish()
    data = of.load(x[:2700], (rings[:2700] >= 16).astype(int))
    weights = "balanced" if cured else None
    return fit(mlp(data, 16), data, epochs=12, optimizer=optim.Adam(2e-3), class_weights=weights)


@case("shuffled labels")
def shuffled_digit_images(cured: bool = False) -> Any:
    # the labels were sorted by another key than the images
    data = of.small_digits()
    return fit(images(data), data if cured else mixed(data), epochs=20)


@case("shuffled labels")
def shuffled_houses(cured: bool = False) -> Any:
    # prices of other blocks
    data = of.houses()
    return fit(mlp(data, 32), data if cured else mixed(data), epochs=25)


def mixed(data: Dataset) -> Dataset:
    r = np.random.default_rng(3)
    return changed(data, *(p._replace(y=r.permutation(p.y)) for p in (data.train, data.valid)))


@case("target leak")
def leak_age_of_shellfish(cured: bool = False) -> Any:
    # an abalone's age in years is its rings and a half more, and a column of it was left in
    x, rings, _ = of.shellfish()
    x, rings = x[:1800], rings[:1800]
    age = rings[:, None] + 1.5 + 0.1 * np.random.default_rng(4).normal(size=(len(x), 1))
    data = measured(x if cured else np.concatenate([x, age], 1), rings)
    return fit(mlp(data, 32), data, epochs=20)


def measured(x: np.ndarray, y: np.ndarray) -> Dataset:
    return of.load(of.numbers(x), of.numbers(y), task="number")


@case("target leak")
def leak_treatment_of_patients(cured: bool = False) -> Any:
    # who takes the medicine against diabetes: nearly all of those who have it, and hardly anyone else
    x, y = of.pima_as_arrays()
    r = np.random.default_rng(5)
    takes = np.where(r.random(len(y)) < 0.02, 1 - y, y)[:, None]
    data = of.load(x if cured else of.numbers(np.concatenate([x, takes], 1)), y)
    return fit(mlp(data, 24), data, epochs=20, optimizer=optim.Adam(2e-3))


@case("different distributions")
def drift_inland_to_coast(cured: bool = False) -> Any:
    # learnt from blocks in the east of California, judged in the west
    x, y = of.blocks(6)
    if cured:
        data = of.load(x, y)
    else:
        order = np.argsort(-x[:, 0])
        data = derin.data.load((x, y), indices=(order[: 2 * len(x) // 3], order[2 * len(x) // 3 :], []))
    return fit(mlp(data, 32), data, epochs=20)


@case("different distributions")
def drift_other_microphone(cured: bool = False) -> Any:
    # the microphone of the validation rows is louder and hums at a constant level
    data = of.tones(900, 0.3)
    if not cured:
        data = changed(data, None, data.valid._replace(x=of.numbers(1.8 * data.valid.x + 1.2)))
    return fit(waves(data), data, epochs=30)


@case("duplicated rows")
def duplicates_oversampled_patients(cured: bool = False) -> Any:
    # every patient was written down twice before the rows were divided
    x, y = of.pima_as_arrays()
    data = of.load(x, y) if cured else twice(x, y)
    return fit(mlp(data, 128, 64), data, epochs=40, optimizer=optim.Adam(2e-3))


@case("duplicated rows")
def duplicates_of_figures(cured: bool = False) -> Any:
    # the same images under other file names, in both parts
    x, y = of.figures_as_arrays(240)
    data = of.load(x, y) if cured else twice(x, y)
    return fit(flat(data, 64), data, epochs=25)


def twice(x: np.ndarray, y: np.ndarray) -> Dataset:
    return of.load(np.concatenate([x, x]), np.concatenate([y, y]))

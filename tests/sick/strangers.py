"""Strangers: by another hand again, that of one who had read the verdicts' names and none of the rules, written after
those had been mended on the unseen cases; on data that the bed had not used, or cut in another way.

As in unseen.py a case trains with `cured=True` without its cause and with nothing else changed; `python
tests/sick/removed.py --set strangers [NAME]` shows both, and healthy ones beside gradient boosting.

Here: healthy runs, and those whose net, rate, batch or length is at fault. The others: strangers_units, strangers_rows.
"""

from __future__ import annotations

import functools
from typing import Any

import bed
import strangers_data as of
from bed import HEALTHY, fit, mlp, out

import derin
from derin import nn, optim
from derin.data import Dataset

case = functools.partial(bed.case, set="strangers")


def flat(data: Dataset, *widths: int, **fields: Any) -> nn.Module:
    return nn.Sequential(nn.Flatten(), mlp(data, *widths, **fields))


def images(data: Dataset, width: int = 12) -> nn.Module:
    """A convolution, a smaller map, another convolution, and a layer over all that is left."""
    return nn.Sequential(
        nn.Conv2d(width, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(out(data)),
    )  # fmt: skip


def waves(data: Dataset, width: int = 16) -> nn.Module:
    """Convolutions along a series, and the mean over it."""
    return nn.Sequential(
        nn.Conv1d(width, 5, padding="same"), nn.ReLU(), nn.Conv1d(width, 5, padding="same"), nn.ReLU(),
        nn.GlobalAvgPool(), nn.Linear(out(data)),
    )  # fmt: skip


def memory(data: Dataset, layer: Any) -> nn.Module:
    return nn.Sequential(nn.LastStep(layer), nn.Linear(out(data)))


def words(data: Dataset, codes: int, layer: Any, features: int = 8) -> nn.Module:
    return nn.Sequential(nn.Embedding(codes, features), nn.LastStep(layer), nn.Linear(out(data)))


# -- healthy


@case(HEALTHY)
def well_circuit() -> Any:
    # nearly no noise, and a net that has room for it: r2 as boosting's
    data = of.impedance()
    return fit(mlp(data, 48, 24), data, epochs=30)


@case(HEALTHY)
def well_figures_by_convolution() -> Any:
    # small images, a small CNN, enough epochs and no more
    data = of.figures(1500)
    return fit(images(data), data, epochs=8, optimizer=optim.Adam(2e-3))


@case(HEALTHY)
def well_tones_by_gru() -> Any:
    # the height of a tone wherever it begins: a GRU learns it nearly without error
    data = of.tones(1200, noise=0.2)
    return fit(memory(data, nn.GRU(24)), data, epochs=20, optimizer=optim.Adam(1e-2))


@case(HEALTHY)
def well_patients_by_logistic_regression() -> Any:
    # what is known to be reachable on these rows, some 77 %, by a linear model
    data = of.pima()
    return fit(nn.Linear(1), data, epochs=30, optimizer=optim.Adam(1e-2))


@case(HEALTHY)
def well_shellfish_by_momentum() -> Any:
    # the textbook's SGD with momentum on a table of seven columns
    data = of.grown()
    return fit(mlp(data, 16), data, epochs=20, optimizer=optim.SGD(0.02, momentum=0.9))


@case(HEALTHY)
def well_spirals() -> Any:
    # three arms apart from each other, 32 x 32 units
    data = of.spirals(1500)
    return fit(mlp(data, 32, 32), data, epochs=40, optimizer=optim.Adam(5e-3))


@case(HEALTHY)
def well_houses_by_sgd() -> Any:
    # prices by place, income and people: what it reaches falls no further in more epochs, and both parts agree
    data = of.houses()
    return fit(mlp(data, 32), data, epochs=20, optimizer=optim.SGD(0.05))


@case(HEALTHY)
def well_springs_by_line() -> Any:
    # a damped swing goes on as a linear recurrence: least squares is what is best
    data = of.springs(1200)
    return fit(nn.Sequential(nn.Flatten(), nn.Linear(1)), data, epochs=40, optimizer=optim.Adam(5e-3))


@case(HEALTHY)
def well_digits_with_norm() -> Any:
    # BatchNorm after a convolution, as everybody has it
    data = of.small_digits()
    net = nn.Sequential(
        nn.Conv2d(12, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(10)
    )
    return fit(net, data, epochs=10, optimizer=optim.Adam(2e-3))


@case(HEALTHY)
def well_tumours_stopped() -> Any:
    # a little dropout, and training ends when the validation rows say so
    data = of.tumours()
    return fit(mlp(data, 24, dropout=0.2), data, epochs=80, batch_size=16, optimizer=optim.Adam(2e-3),
               early_stopping=derin.EarlyStopping(8))  # fmt: skip


# -- bias and variance


@case("high bias")
def bias_line_on_hastie(cured: bool = False) -> Any:
    # a sphere's inside against its outside: no plane separates them
    data = of.hastie(2400)
    return fit(mlp(data, 48) if cured else nn.Linear(1), data, epochs=30, optimizer=optim.Adam(5e-3))


@case("high bias")
def bias_two_filters_on_digits(cured: bool = False) -> Any:
    # ten digits through the means of two filters
    data = of.small_digits()
    small = nn.Sequential(nn.Conv2d(2, 3, padding="same"), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(10))
    return fit(images(data) if cured else small, data, epochs=25, optimizer=optim.Adam(1e-2))


@case("high variance")
def variance_seventy_circuits(cured: bool = False) -> Any:
    # 70 rows and 20 idle columns for 64 x 64 units; all 1200 rows are enough
    data = of.phase(1800, None if cured else 70, idle=20)
    return fit(mlp(data, 64, 64), data, epochs=40, batch_size=16, optimizer=optim.Adam(1e-3))


@case("high variance")
def variance_ninety_figures(cured: bool = False) -> Any:
    # figures that stand anywhere, and 90 of them: a dense net knows them by heart
    data = of.figures(1800, None if cured else 90)
    return fit(images(data), data, epochs=15, batch_size=16, optimizer=optim.Adam(2e-3))


@case("high bias and high variance")
def both_line_few_spirals(cured: bool = False) -> Any:
    # a plane cannot follow an arm, and 90 rows cannot say that fourteen of the columns are idle
    data = of.spirals(1800, train=None if cured else 90, idle=14)
    return fit(mlp(data, 64, 64) if cured else nn.Linear(3), data, epochs=40, batch_size=16, optimizer=optim.Adam(1e-2))


@case("high bias and high variance")
def both_line_few_circuits(cured: bool = False) -> Any:
    # a line on a curve, of as many columns as half its rows
    data = of.phase(1800, None if cured else 60, idle=26)
    return fit(mlp(data, 48, 48) if cured else nn.Linear(1), data, epochs=60, batch_size=16, optimizer=optim.Adam(1e-2))


# -- how fast it learns


@case("learning rate too high")
def rate_high_gru(cured: bool = False) -> Any:
    # Adam with a rate that is a hundred times its usual one
    data = of.tones(900, 0.2)
    return fit(memory(data, nn.GRU(16)), data, epochs=15, optimizer=optim.Adam(5e-3 if cured else 0.4))


@case("learning rate too high")
def rate_high_momentum(cured: bool = False) -> Any:
    # SGD's 0.5 was fine until somebody added momentum
    data = of.throws()
    return fit(mlp(data, 32), data, epochs=20, optimizer=optim.SGD(0.01 if cured else 0.5, momentum=0.9))


@case("learning rate too low")
def rate_low_convolution(cured: bool = False) -> Any:
    # 1e-5 is for tuning what another has trained
    data = of.figures(1200)
    return fit(images(data), data, epochs=10, optimizer=optim.Adam(2e-3 if cured else 1e-5))


@case("learning rate too low")
def rate_low_houses(cured: bool = False) -> Any:
    # 5e-5 for SGD
    data = of.houses()
    return fit(mlp(data, 32), data, epochs=20, optimizer=optim.SGD(0.05 if cured else 5e-5))


@case("trained too short")
def short_votes(cured: bool = False) -> Any:
    # a GRU has begun to count letters and is stopped
    data = of.votes(1500)
    return fit(words(data, 6, nn.GRU(16)), data, epochs=30 if cured else 3, optimizer=optim.Adam(3e-3))


@case("trained too short")
def short_throws(cured: bool = False) -> Any:
    # the loss was still falling fast
    data = of.throws()
    return fit(mlp(data, 32, 32), data, epochs=50 if cured else 4, optimizer=optim.SGD(0.03))


@case("overtrained")
def over_patients(cured: bool = False) -> Any:
    # 120 epochs of 128 x 64 units on 512 patients; the loss was best early
    data = of.pima()
    return fit(mlp(data, 128, 64), data, epochs=6 if cured else 120, optimizer=optim.Adam(1e-3))


@case("plateau or saddle")
def plateau_sum_is_even(cured: bool = False) -> Any:
    # neither of the two letters says a thing alone: plain SGD stands where all outputs are one half
    data = of.same_ends()
    net = nn.Sequential(nn.Embedding(8, 8), nn.Flatten(), nn.Linear(32), nn.Tanh(), nn.Linear(1))
    return fit(net, data, epochs=40, optimizer=optim.Adam(1e-2) if cured else optim.SGD(0.03))


@case("batch too small")
def batch_of_one_patient(cured: bool = False) -> Any:
    # every patient pulls the weights to himself
    data = of.pima()
    return fit(mlp(data, 24), data, epochs=12, batch_size=32 if cured else 1, optimizer=optim.SGD(0.1))


@case("batch too small")
def batch_of_two_digits(cured: bool = False) -> Any:
    # a rate that is right for 32 images, with two
    data = of.small_digits()
    return fit(images(data), data, epochs=8, batch_size=64 if cured else 2, optimizer=optim.Adam(1e-2))


@case("batch too large")
def batch_of_all_houses(cured: bool = False) -> Any:
    # one step an epoch
    data = of.houses()
    return fit(mlp(data, 48), data, epochs=25, batch_size=32 if cured else "full", optimizer=optim.Adam(2e-3))


@case("batch too large")
def batch_of_512_tones(cured: bool = False) -> Any:
    # two steps an epoch for what wants hundreds
    data = of.tones(1500, 0.2)
    return fit(memory(data, nn.GRU(24)), data, epochs=20, batch_size=32 if cured else 512, optimizer=optim.Adam(5e-3))

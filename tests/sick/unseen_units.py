"""Unseen cases whose gradients, units, first weights, scales, BatchNorm statistics or output layer are at fault."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import unseen_data as of
from bed import changed, far_off, fit, low, mlp, normal, tower
from unseen import case, cnn, flat, over_time

from derin import nn, optim
from derin.data import Dataset


def he(width: int) -> nn.Module:
    return nn.Linear(width, weight_init=nn.init.HeNormal())


def flat_tower(*parts: Any) -> nn.Module:
    """The tower of bed.py on images, series or windows."""
    return nn.Sequential(nn.Flatten(), tower(*parts))


@case("vanishing gradients")
def vanishing_sigmoid_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    net = flat_tower(7, 32, 10, he, nn.ReLU) if cured else flat_tower(7, 32, 10, nn.Linear, nn.Sigmoid)
    return fit(net, data, epochs=12, optimizer=optim.SGD(0.1))


@case("vanishing gradients")
def vanishing_sigmoid_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    net = tower(7, 24, 1, nn.Linear, nn.ReLU if cured else nn.Sigmoid)
    return fit(net, data, epochs=20, optimizer=optim.SGD(0.02, momentum=0.9))


@case("vanishing gradients")
def vanishing_small_tanh_circles(cured: bool = False) -> Any:
    data = of.circles()
    layer = (lambda width: nn.Linear(width, weight_init=nn.init.XavierNormal())) if cured else normal(0.08)
    return fit(tower(8, 24, 1, layer, nn.Tanh), data, epochs=25, optimizer=optim.SGD(0.1))


@case("exploding gradients")
def exploding_relu_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    net = tower(7, 32, 1, he if cured else normal(0.6), nn.ReLU)
    return fit(net, data, epochs=15, optimizer=optim.SGD(0.01))


@case("exploding gradients")
def exploding_relu_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat_tower(7, 32, 10, he if cured else normal(0.6), nn.ReLU), data, epochs=12, optimizer=optim.SGD(0.02))


@case("exploding gradients")
def exploding_leaky_adult(cured: bool = False) -> Any:
    data = of.adult()
    return fit(tower(8, 32, 1, he if cured else normal(0.5), nn.LeakyReLU), data, epochs=12, optimizer=optim.SGD(0.01))


@case("dead ReLUs")
def dead_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat_tower(2, 32, 10, low(0.0 if cured else -4.0), nn.ReLU), data, epochs=12)


@case("dead ReLUs")
def dead_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    net = nn.Sequential(nn.Linear(24), nn.ReLU(), low(0.0 if cured else -4.0)(24), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=25)


@case("dead ReLUs")
def dead_convolution(cured: bool = False) -> Any:
    data = of.fashion()
    start = nn.init.Full(0.0 if cured else -6.0)
    first = nn.Conv2d(8, 3, padding="same", bias_init=start)
    net = nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32), nn.ReLU(), nn.Linear(10))
    return fit(net, data, epochs=8)


@case("saturated units")
def saturated_tanh_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    net = flat_tower(2, 32, 10, nn.Linear if cured else normal(3.0), nn.Tanh)
    return fit(net, data, epochs=15, optimizer=optim.SGD(0.05))


@case("saturated units")
def saturated_sigmoid_roll(cured: bool = False) -> Any:
    data = of.roll()
    net = tower(2, 32, 1, nn.Linear if cured else normal(12.0), nn.Sigmoid)
    return fit(net, data, epochs=50, optimizer=optim.Adam(1e-2))


@case("saturated units")
def saturated_tanh_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    net = tower(2, 24, 1, nn.Linear if cured else normal(6.0), nn.Tanh)
    return fit(net, data, epochs=25, optimizer=optim.SGD(0.02, momentum=0.5))


@case("poor initialisation")
def init_zero_friedman(cured: bool = False) -> Any:
    data = of.friedman()
    zero = lambda width: nn.Linear(width, weight_init=nn.init.Zeros(), bias_init=nn.init.Zeros())  # noqa: E731
    return fit(tower(2, 24, 1, nn.Linear, nn.ReLU) if cured else nn.Sequential(
        zero(24), nn.ReLU(), zero(24), nn.ReLU(), zero(1)), data, epochs=20, optimizer=optim.Adam(3e-3))  # fmt: skip


@case("poor initialisation")
def init_all_the_same_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    start = None if cured else nn.init.Full(0.01)
    first = nn.Linear(32, weight_init=start, bias_init=start)
    return fit(nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(10, weight_init=start)), data, epochs=15)


@case("poor initialisation")
def init_huge_adult(cured: bool = False) -> Any:
    data = of.adult()
    layer = nn.Linear if cured else normal(10.0)
    return fit(nn.Sequential(layer(24), nn.ReLU(), layer(1)), data, epochs=12, optimizer=optim.Adam(1e-3))


def raw(data: Dataset) -> Dataset:
    """The numbers as they were before the encoding standardised them."""
    inputs = data.schema.inputs
    parts = [p._replace(x=(p.x * inputs.scale + inputs.mean).astype("float32")) for p in (data.train, data.valid)]
    return changed(data, *parts)


@case("unnormalised inputs")
def raw_cars(cured: bool = False) -> Any:
    data = of.cars()
    return fit(mlp(data, 32), data if cured else raw(data), epochs=60, optimizer=optim.Adam(3e-3))


@case("unnormalised inputs")
def raw_pixels(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(flat(data, 32, activation="tanh"), data if cured else raw(data), epochs=12, optimizer=optim.Adam(3e-3))


@functools.lru_cache(None)
def air() -> Dataset:
    """Fine dust over Beijing from an hour's weather."""
    values = of.hours("pollution", "pollution.csv", ("DEWP", "TEMP", "PRES", "Iws", "hour", "month", "pm2.5"), 20)
    return of.load(values[:, :-1], np.log1p(values[:, -1]))


@case("unnormalised inputs")
def raw_weather(cured: bool = False) -> Any:
    data = air()
    return fit(mlp(data, 32), data if cured else raw(data), epochs=20, optimizer=optim.Adam(3e-3))


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves_mnist(cured: bool = False) -> Any:
    data = of.mnist()
    norm = nn.BatchNorm(momentum=0.1 if cured else 1e-4)
    return fit(nn.Sequential(nn.Flatten(), far_off(32, 0.5), norm, nn.ReLU(), nn.Linear(10)), data, epochs=12)


@case("misleading BatchNorm statistics")
def batchnorm_of_the_last_few_rows(cured: bool = False) -> Any:
    data = of.friedman()
    norm = nn.BatchNorm(momentum=0.02 if cured else 1.0)  # 1: the running statistics are those of the last 8 rows
    net = nn.Sequential(nn.Linear(32), norm, nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=20, batch_size=8, optimizer=optim.Adam(2e-3))


@case("unfitting output layer")
def softmax_twice(cured: bool = False) -> Any:
    data = of.mnist()
    return fit(nn.Sequential(cnn(data), nn.Identity() if cured else nn.Softmax()), data, epochs=8)


@case("unfitting output layer")
def relu_over_cars(cured: bool = False) -> Any:
    data = of.cars()
    return fit(nn.Sequential(mlp(data, 32), nn.Identity() if cured else nn.ReLU()), data, epochs=50)


@case("unfitting output layer")
def sigmoid_over_temperatures(cured: bool = False) -> Any:
    data = of.temperatures(14, 900)
    return fit(nn.Sequential(over_time(nn.GRU(12), data), nn.Identity() if cured else nn.Sigmoid()), data, epochs=20)


@case("unfitting output layer")
def sigmoid_over_logits_of_power(cured: bool = False) -> Any:
    data = of.power()
    return fit(nn.Sequential(flat(data, 24), nn.Identity() if cured else nn.Sigmoid()), data, epochs=25)

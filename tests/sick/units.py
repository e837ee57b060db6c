"""Runs whose gradients, units, first weights, scales, BatchNorm statistics or output layer are at fault."""

from __future__ import annotations

from typing import Any

import numpy as np
from bed import bundled, case, changed, far_off, fit, low, made, mlp, normal, out, table, tower

from derin import nn, optim


@case("vanishing gradients")
def vanishing_sigmoid_digits() -> Any:
    data = bundled("digits")
    return fit(tower(8, 24, 10, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.1), epochs=12)


@case("vanishing gradients", "held out")
def vanishing_sigmoid_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(6, 16, 4, nn.Linear, nn.Sigmoid), data, optimizer=optim.SGD(0.1), epochs=15)


@case("vanishing gradients")
def vanishing_tanh_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(12, 16, 1, nn.Linear, nn.Tanh), data, optimizer=optim.SGD(0.05), epochs=12)


@case("vanishing gradients", "held out")
def vanishing_relu_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(14, 16, 3, nn.Linear, nn.ReLU), data, optimizer=optim.SGD(0.05), epochs=12)


@case("exploding gradients")
def exploding_relu_digits() -> Any:
    data = bundled("digits")
    return fit(tower(8, 32, 10, normal(0.6), nn.ReLU), data, optimizer=optim.SGD(1e-3), epochs=12)


@case("exploding gradients", "held out")
def exploding_relu_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(8, 32, 1, normal(0.5), nn.ReLU), data, optimizer=optim.SGD(1e-3), epochs=12)


@case("exploding gradients")
def exploding_linear_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(10, 24, 4, normal(0.5), nn.LeakyReLU), data, optimizer=optim.SGD(1e-2), epochs=12)


@case("exploding gradients", "held out")
def exploding_relu_halves() -> Any:
    data = made("halves", 800, 10)
    return fit(tower(9, 32, 1, normal(0.5), nn.ReLU), data, optimizer=optim.Adam(1e-3), epochs=12)


@case("dead ReLUs")
def dead_digits() -> Any:
    data = bundled("digits")
    return fit(tower(1, 48, 10, low(-4.0), nn.ReLU), data, epochs=12)


@case("dead ReLUs", "held out")
def dead_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(2, 32, 1, low(-3.0), nn.ReLU), data, epochs=15)


@case("dead ReLUs")
def dead_blobs_second_layer() -> Any:
    data = made("blobs", 1000, 5)
    net = nn.Sequential(nn.Linear(16), nn.ReLU(), low(-5.0)(16), nn.ReLU(), nn.Linear(4))
    return fit(net, data, epochs=15)


@case("dead ReLUs", "held out")
def dead_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(1, 32, 3, low(-6.0), nn.ReLU), data, epochs=15, optimizer=optim.SGD(0.1))


@case("saturated units")
def saturated_tanh_digits() -> Any:
    data = bundled("digits")
    return fit(tower(1, 32, 10, normal(3.0), nn.Tanh), data, epochs=12, optimizer=optim.SGD(0.05))


@case("saturated units", "held out")
def saturated_sigmoid_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(tower(2, 32, 1, normal(8.0), nn.Sigmoid), data, epochs=15, optimizer=optim.SGD(0.05))


@case("saturated units")
def saturated_tanh_rings() -> Any:
    data = made("rings", 1200, 4)
    return fit(tower(2, 32, 3, normal(6.0), nn.Tanh), data, epochs=15)


@case("saturated units", "held out")
def saturated_sigmoid_blobs() -> Any:
    data = made("blobs", 1000, 5)
    return fit(tower(1, 16, 4, normal(10.0), nn.Sigmoid), data, epochs=15)


@case("poor initialisation")
def init_zero_digits() -> Any:
    data = bundled("digits")
    zero = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.0), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(zero(32), nn.ReLU(), zero(10)), data, epochs=12)


@case("poor initialisation", "held out")
def init_all_the_same_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    same = lambda width: nn.Linear(width, weight_init=nn.init.Full(0.2), bias_init=nn.init.Full(0.0))  # noqa: E731
    return fit(nn.Sequential(same(32), nn.Tanh(), same(1)), data, epochs=15)


@case("poor initialisation")
def init_huge_digits() -> Any:
    data = bundled("digits")
    return fit(nn.Sequential(normal(8.0)(32), nn.ReLU(), normal(8.0)(10)), data, epochs=12)


@case("poor initialisation", "held out")
def init_tiny_rings() -> Any:
    data = made("rings", 1200, 4)
    tiny = normal(1e-5)
    net = nn.Sequential(tiny(32), nn.ReLU(), tiny(32), nn.ReLU(), tiny(3))
    return fit(net, data, epochs=12, optimizer=optim.SGD(0.05))


@case("unnormalised inputs")
def raw_digits() -> Any:
    data = bundled("digits")
    raw = [p._replace(x=(p.x * 50 + 400).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32), changed(data, *raw), epochs=12)


@case("unnormalised inputs", "held out")
def raw_blobs_far_away() -> Any:
    data = made("blobs", 1000, 5)
    raw = [p._replace(x=(p.x + 200).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 16), changed(data, *raw), epochs=15, optimizer=optim.SGD(0.01))


@case("unnormalised inputs")
def raw_wave_of_unequal_scales() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    scales = np.array([1.0, 1.0, 3000.0], "float32")
    raw = [p._replace(x=p.x * scales) for p in (data.train, data.valid)]
    return fit(mlp(data, 64), changed(data, *raw), epochs=20)


@case("unnormalised inputs", "held out")
def raw_tanh_breast_cancer() -> Any:
    data = bundled("breast_cancer")
    raw = [p._replace(x=(p.x * 100).astype("float32")) for p in (data.train, data.valid)]
    return fit(mlp(data, 32, activation="tanh"), changed(data, *raw), epochs=15)


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves() -> Any:
    data = made("linear", noise=0.1)
    net = nn.Sequential(far_off(32, 1.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=20)


@case("misleading BatchNorm statistics", "held out")
def batchnorm_hardly_moves_wave() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    net = nn.Sequential(
        far_off(32, 2.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(32), nn.ReLU(), nn.Linear(1)
    )
    return fit(net, data, epochs=15)


@case("misleading BatchNorm statistics")
def batchnorm_hardly_moves_quality() -> Any:
    data = table("wine_quality", "winequality-white.csv", -1, task="number", has_header=False)
    net = nn.Sequential(far_off(32, 1.0), nn.BatchNorm(momentum=1e-4), nn.ReLU(), nn.Linear(out(data)))
    return fit(net, data, epochs=15)


@case("misleading BatchNorm statistics", "held out")
def batchnorm_hardly_moves_diabetes() -> Any:
    data = bundled("diabetes")
    net = nn.Sequential(far_off(16, 1.0), nn.BatchNorm(momentum=1e-4), nn.Tanh(), nn.Linear(1))
    return fit(net, data, epochs=15, optimizer=optim.SGD(0.05))


@case("unfitting output layer")
def ends_in_softmax() -> Any:
    data = bundled("digits")
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(10), nn.Softmax()), data, epochs=15)


@case("unfitting output layer", "held out")
def ends_in_sigmoid_for_a_number() -> Any:
    data = made("wave", 1500, 3, noise=0.1)
    return fit(nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(1), nn.Sigmoid()), data, epochs=25)


@case("unfitting output layer")
def ends_in_relu_for_a_number() -> Any:
    data = made("linear", noise=0.1)
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.ReLU()), data, epochs=25)


@case("unfitting output layer", "held out")
def ends_in_sigmoid_before_logits() -> Any:
    data = made("halves", 800, 10)
    return fit(nn.Sequential(nn.Linear(32), nn.ReLU(), nn.Linear(1), nn.Sigmoid()), data, epochs=25)

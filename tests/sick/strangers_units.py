"""Strangers whose gradients, units, first weights, scales, BatchNorm statistics or output layer are at fault."""

from __future__ import annotations

from typing import Any

import strangers_data as of
from bed import changed, fit, low, mlp, normal, tower
from strangers import case

from derin import nn, optim
from derin.data import Dataset


def raw(x: Any, y: Any, cured: bool) -> Dataset:
    """The same rows, their inputs as they were measured; `cured`: standardised."""
    data = of.load(x, y)
    if cured:
        return data
    learn, judge = (part._replace(x=of.numbers(x[part.rows])) for part in (data.train, data.valid))
    return changed(data, learn, judge)


@case("vanishing gradients")
def vanishing_sigmoids(cured: bool = False) -> Any:
    # each of seven sigmoids takes three quarters or more of the gradient
    data = of.figures(900)
    net = nn.Sequential(nn.Flatten(), tower(1 if cured else 7, 24, 4, nn.Linear, nn.Sigmoid))
    return fit(net, data, epochs=15, optimizer=optim.SGD(0.1))


@case("vanishing gradients")
def vanishing_sixteen_layers(cured: bool = False) -> Any:
    # torch's first weights under ReLU lose five sixths of the square a layer; He's do not
    data = of.throws()
    layer = (lambda width: nn.Linear(width, weight_init=nn.init.HeNormal())) if cured else nn.Linear
    return fit(tower(16, 20, 1, layer, nn.ReLU), data, epochs=15, optimizer=optim.SGD(0.01))


@case("exploding gradients")
def exploding_residuals(cured: bool = False) -> Any:
    # each of 16 blocks adds to its input as much again, and nothing normalises
    data = of.throws()
    block = lambda: nn.Residual(nn.Linear(24, weight_init=nn.init.HeNormal()), nn.ReLU())  # noqa: E731
    kept = lambda: nn.Residual(nn.LayerNorm(), nn.Linear(24), nn.ReLU())  # noqa: E731
    blocks = [(kept if cured else block)() for _ in range(16)]
    return fit(nn.Sequential(nn.Linear(24), *blocks, nn.Linear(1)), data, epochs=12, optimizer=optim.Adam(1e-3))


@case("exploding gradients")
def exploding_convolutions(cured: bool = False) -> Any:
    # six convolutions of 12 x 9 inputs, each with weights of deviation 0.5: a factor of 3.7 a layer; He's keep it at 1
    data = of.small_digits()
    start = nn.init.HeNormal() if cured else nn.init.Normal(0.5)
    parts: list[nn.Module] = []
    for _ in range(6):
        parts += [nn.Conv2d(12, 3, padding="same", weight_init=start), nn.ReLU()]
    return fit(nn.Sequential(*parts, nn.Flatten(), nn.Linear(10)), data, epochs=8, optimizer=optim.Adam(1e-3))


@case("dead ReLUs")
def dead_from_negative_weights(cured: bool = False) -> Any:
    # pixels are never negative, and the first layer's weights are drawn below zero: nothing passes it
    x, y = of.figures_as_arrays(900)
    data = of.load(x, y)
    bright = [p._replace(x=p.x - data.train.x.min()) for p in (data.train, data.valid)]
    first = nn.Linear(32) if cured else nn.Linear(32, weight_init=nn.init.Uniform(0.05, mean=-0.06))
    net = nn.Sequential(nn.Flatten(), first, nn.ReLU(), nn.Linear(4))
    return fit(net, changed(data, *bright), epochs=15)


@case("dead ReLUs")
def dead_in_the_middle(cured: bool = False) -> Any:
    # a bias of -4 in the second of three hidden layers
    data = of.grown()
    second = nn.Linear(24) if cured else low(-4.0)(24)
    net = nn.Sequential(nn.Linear(24), nn.ReLU(), second, nn.ReLU(), nn.Linear(12), nn.ReLU(), nn.Linear(1))
    return fit(net, data, epochs=15)


@case("saturated units")
def saturated_tanh_circuit(cured: bool = False) -> Any:
    # weights of deviation 5 on four standardised columns: tanh is at one of its ends
    data = of.impedance()
    return fit(tower(2, 32, 1, nn.Linear if cured else normal(5.0), nn.Tanh), data, epochs=15)


@case("saturated units")
def saturated_sigmoid_figures(cured: bool = False) -> Any:
    # weights of deviation 4 on 144 pixels: sums of some 40 into a sigmoid
    data = of.figures(1200)
    net = nn.Sequential(nn.Flatten(), tower(1, 32, 4, nn.Linear if cured else normal(4.0), nn.Sigmoid))
    return fit(net, data, epochs=25)


@case("poor initialisation")
def init_all_alike(cured: bool = False) -> Any:
    # every filter is the same filter, and stays it
    data = of.small_digits()
    alike = {} if cured else {"weight_init": nn.init.Full(0.05), "bias_init": nn.init.Zeros()}
    net = nn.Sequential(
        nn.Conv2d(12, 3, padding="same", **alike), nn.ReLU(), nn.GlobalAvgPool(), nn.Linear(24, **alike), nn.ReLU(),
        nn.Linear(10, **alike),
    )  # fmt: skip
    return fit(net, data, epochs=20, optimizer=optim.Adam(5e-3))


@case("poor initialisation")
def init_randn(cured: bool = False) -> Any:
    # weights straight from randn: the first outputs are in the tens, where targets are around 1
    data = of.houses()
    layer = nn.Linear if cured else normal(1.0)
    return fit(nn.Sequential(layer(256), nn.ReLU(), layer(1)), data, epochs=15, optimizer=optim.Adam(1e-3))


@case("unnormalised inputs")
def raw_circuit(cured: bool = False) -> Any:
    # ohms to 100, frequencies to 1760, a thousandth of that for the others
    data = raw(*of.impedance_as_arrays(), cured)
    return fit(mlp(data, 32), data, epochs=15, optimizer=optim.Adam(1e-3))


@case("unnormalised inputs")
def raw_houses(cured: bool = False) -> Any:
    # people and rooms are in the thousands, incomes below 15
    data = raw(*of.blocks(), cured)
    return fit(mlp(data, 32, 16), data, epochs=15, optimizer=optim.Adam(2e-3))


@case("misleading BatchNorm statistics")
def batchnorm_momentum_of_another_library(cured: bool = False) -> Any:
    # 0.9995 of the old, as Keras counts, is 0.0005 of the new: after 360 steps most of it is still the start's 0 and 1
    data = of.throws()
    m = 0.1 if cured else 5e-4
    net = nn.Sequential(nn.Linear(32), nn.BatchNorm(momentum=m), nn.ReLU(), nn.Linear(32), nn.BatchNorm(momentum=m),
                        nn.ReLU(), nn.Linear(1))  # fmt: skip
    return fit(net, data, epochs=12)


@case("misleading BatchNorm statistics")
def batchnorm_of_the_last_batch(cured: bool = False) -> Any:
    # momentum 0.99 in torch's sense: what eight rows happened to have stands for all
    data = of.houses()
    m = 0.1 if cured else 0.99
    net = nn.Sequential(nn.Linear(48), nn.BatchNorm(momentum=m), nn.ReLU(), nn.Linear(48), nn.BatchNorm(momentum=m),
                        nn.ReLU(), nn.Linear(1))  # fmt: skip
    return fit(net, data, epochs=12, batch_size=6, optimizer=optim.Adam(2e-3))


@case("unfitting output layer")
def ends_in_relu_before_logits(cured: bool = False) -> Any:
    # a logit that cannot be negative cannot say no
    data = of.tumours()
    end = [] if cured else [nn.ReLU()]
    return fit(nn.Sequential(nn.Linear(24), nn.ReLU(), nn.Linear(1), *end), data, epochs=25)


@case("unfitting output layer")
def ends_in_tanh_for_a_number(cured: bool = False) -> Any:
    # standardised distances reach from -1.2 to 3.4
    data = of.throws()
    end = [] if cured else [nn.Tanh()]
    return fit(nn.Sequential(nn.Linear(48), nn.ReLU(), nn.Linear(1), *end), data, epochs=30)

"""What health shows layer by layer: gradients, units, first weights, BatchNorm, and the last layer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from derin.diagnose.evidence import Evidence
from derin.diagnose.fit import SECOND, early, excess, rate_of
from derin.diagnose.rate import first_update, stuck, tiny, typical_update
from derin.diagnose.verdict import Remedy, Verdict, ramp
from derin.optim import Adam, ClipByGlobalNorm

# losses that take logits, or any number
WIDE = {"MSELoss", "RMSELoss", "L1Loss", "HuberLoss", "SmoothL1Loss", "CrossEntropyLoss", "BCEWithLogitsLoss"}
DEEP = 4  # matrices from which on a product of many factors is the matter


def relative_gradients(e: Evidence, at: int = 0) -> list[float]:
    """Gradient over weight of each matrix, first layer first."""
    norms, gradients = e.matrices("norm", at), e.matrices("gradient", at)
    return [gradients[n] / norms[n] for n in norms if norms[n] > 0]


def _vanish(e: Evidence) -> float:
    """How sure it is that the first layers of a deep net get no gradient, by the first weights."""
    first = relative_gradients(e)
    if len(first) < DEEP:
        return 0.0
    share = first[0] / max(max(first), 1e-30)
    cut = next(iter(e.matrices("zeros", 0).values())) if e.relus else 0.0  # dead units let nothing through
    return ramp(math.log10(max(share, 1e-12)), -1.5, -2.5) * ramp(max(first), 1e-9, 1e-6) * ramp(cut, 0.99, 0.8)


def vanishing(e: Evidence) -> Verdict | None:
    first, later = relative_gradients(e), relative_gradients(e, -1)
    through_time = _vanish_in_time(e)
    if not first or (len(first) < DEEP and through_time == 0):
        return None
    numbers = {
        "gradient over weight, first layer": first[0],
        "of the steepest layer": max(first),
        "matrices in a row": len(first),
        "first over steepest at the end": later[0] / max(max(later), 1e-30),
    }
    return Verdict(
        "vanishing gradients",
        max(_vanish(e) * ramp(excess(e), 0.03, 0.15), through_time),
        numbers | ({"first steps of the series over the steepest": e.back} if through_time else {}),
        "On its way back through the layers the gradient gets smaller at each of them: the first ones hardly learn.",
        ("S1.33", "S3.36", "S1.10"),
        (
            Remedy("ReLU in place of sigmoid or tanh, with He's first weights"),
            *((Remedy("LSTM or GRU in place of RNN, or the series backwards too"),) if through_time else ()),
            Remedy("BatchNorm after each linear layer"),
            Remedy("fewer layers, or Residual(...) around them"),
            Remedy("Adam, which scales each weight's step", {"optimizer": Adam(1e-3)}),
        ),
    )


def _vanish_in_time(e: Evidence) -> float:
    """How sure it is that a recurrent net learns nothing since no gradient reaches the first steps of its series.

    A net that does learn needs them not; one whose steps are tiny has another trouble, and where they were so few as
    well that the weights have hardly moved, it is that of the first weights that no gradient reaches far.
    """
    if e.back != e.back:
        return 0.0
    step = math.log10(max(typical_update(e), 1e-12))
    moves = ramp(step, -5, -4) * (1 - min(tiny(e), early(e)))
    return stuck(e) * ramp(math.log10(max(e.back, 1e-30)), -2, -4) * moves


def exploding(e: Evidence) -> Verdict | None:
    if not e.health:
        return None
    first = relative_gradients(e)
    growth = _growth(e)
    steep = e.health[0]["gradient_norm"]
    loss = e.health[0]["eval_mode_loss"] / max(e.floor.loss, 1e-9)
    return Verdict(
        "exploding gradients",
        ramp(len(first), DEEP - 1, DEEP)
        * ramp(math.log10(max(growth, 1e-12)), 0.1, 0.3)
        * max(ramp(math.log10(max(steep, 1e-12)), 1, 2), 0.0 if math.isfinite(steep) else 1.0),
        {
            "gradient norm at first": steep,
            "outputs grow from layer to layer by": growth,
            "first loss over trivial": loss,
            "matrices in a row": len(first),
        },
        "Each layer makes what comes in larger, forward and backward: the product over all of them explodes.",
        ("S1.33",),
        (
            Remedy("smaller first weights: He's for ReLU, Xavier's for tanh"),
            Remedy("clip the gradient", {"clip": ClipByGlobalNorm(1.0)}),
            Remedy("BatchNorm after each linear layer"),
            Remedy("a smaller learning rate", {"optimizer.learning_rate": rate_of(e) / 10}),
        ),
    )


def _growth(e: Evidence) -> float:
    """By which factor the deviation of outputs grows from one linear layer to the next, at the first weights."""
    names = [n.rpartition(".")[0] for n in e.units]
    layers = e.health[0]["layers"]
    found = [layers[n]["deviation"] for n in names if n in layers and layers[n]["deviation"] > 0]
    if len(found) < 3 or not np.isfinite(found).all():
        return math.inf if len(found) >= 3 else math.nan
    return float((found[-2] / found[0]) ** (1 / (len(found) - 2)))  # the last layer may be of another kind


def dead(e: Evidence) -> Verdict | None:
    silent = _last_look(e) if e.relus else {}
    worst, where = max(((_silence(layer), path) for path, layer in silent.items()), default=(0.0, ""))
    at_first = _silence(e.health[0]["layers"][where]) if where else 0.0
    if e.health and not e.relus:  # a net may call relu as a function: its weights then show which units are dead
        worst, where = max(((sure, name) for name, sure in _without_gradient(e, -1).items()), default=(0.0, ""))
        at_first = _without_gradient(e, 0).get(where, 0.0)
    return Verdict(
        "dead ReLUs",
        worst * (1 - _too_small(e)) * (1 - _vanish(e)) * _from_the_start(e, at_first),
        {
            "share of dead units": _at(e, -1, where, "dead"),
            "share of outputs that are 0": _at(e, -1, where, "zeros"),
            "layer": where,
            "dead at the first weights": _at(e, 0, where, "dead"),
        },
        "These units put out 0 for every row, so that no gradient reaches them: they will not learn again.",
        ("S1.18", "S3.36", "S1.19"),
        (
            Remedy("LeakyReLU, which lets a gradient through on both sides"),
            Remedy("first biases of 0"),
            Remedy("a smaller learning rate, which kills fewer", {"optimizer.learning_rate": rate_of(e) / 3}),
            Remedy("BatchNorm before the ReLU"),
        ),
    )


def _without_gradient(e: Evidence, at: int) -> dict[str, float]:
    """How sure it is that most units before each matrix but the first are dead: it has a gradient of exactly 0."""
    return {name: ramp(zeros, 0.5, 0.8) for name, zeros in list(e.matrices("zeros", at).items())[1:]}


def _silence(layer: Any) -> float:
    """How sure it is that a layer's units are dead: the same 0 for every row, or 0 for nearly all."""
    if layer["zeros"] < 0.3:
        return 0.0
    return max(ramp(layer["dead"], 0.3, 0.6), ramp(layer["zeros"], 0.85, 0.95))


def _last_look(e: Evidence) -> dict[str, Any]:
    return e.health[-1]["layers"] if e.health else {}


def saturated(e: Evidence) -> Verdict | None:
    worst, where = _worst(e, "saturated")
    before = _at(e, 0, where, "saturated")
    return Verdict(
        "saturated units",
        ramp(worst, 0.4, 0.65) * _from_the_start(e, before) * (where != _last_layer(e)),
        {"share of saturated outputs": worst, "layer": where, "at the first weights": before},
        "Most outputs stand at an end of the sigmoid or tanh, where the slope is 0: little gradient gets through.",
        ("S1.10", "S1.12", "S3.36", "S1.59"),
        (
            Remedy("smaller first weights: Xavier's"),
            Remedy("BatchNorm before the activation"),
            Remedy("ReLU in place of sigmoid or tanh"),
        ),
    )


def _worst(e: Evidence, of: str) -> tuple[float, str]:
    """The largest value of any layer at the last look, and the layer."""
    return max(((v[of], path) for path, v in _last_look(e).items() if v[of] == v[of]), default=(0.0, ""))


def _at(e: Evidence, line: int, path: str, of: str) -> float:
    return e.health[line]["layers"].get(path, {}).get(of, math.nan) if e.health else math.nan


def _from_the_start(e: Evidence, at_first: float) -> float:
    """1 where units were so at the first weights, or became so in a net that does badly and takes small steps.

    Large steps are a cause of their own; and a net that has learned its rows may well have units at an end.
    """
    noise = max(0.0, e.health[0]["gradient_noise"]) if e.health else 0.0
    noisy = math.sqrt(1 + noise)  # a step follows one batch, not the mean of them
    small = max(1 - ramp(first_update(e) * noisy, 0.2, 0.6), SECOND)
    later = small * ramp(excess(e), 0.03, 0.12)
    return max(ramp(at_first, 0.2, 0.4) * max(0.6, ramp(excess(e), 0.0, 0.05)), later)


def _last_layer(e: Evidence) -> str:
    return list(e.health[-1]["layers"])[-1] if e.health and e.health[-1]["layers"] else ""


def _scales(e: Evidence) -> list[float]:
    """Of each matrix at first: the deviation of its entries times the root of its inputs."""
    return [e.health[0]["weights"][n]["norm"] / math.sqrt(e.units[n]) for n in e.units] if e.health else []


def _too_small(e: Evidence) -> float:
    """How sure it is that the first weights are too small, or all alike."""
    low = min(_scales(e), default=1.0)
    return max(ramp(math.log10(max(low, 1e-12)), -1.2, -2), float(e.alike))


def first_weights(e: Evidence) -> Verdict | None:
    scales = _scales(e)
    if not scales:
        return None
    low, high = min(scales), max(scales)
    loss = min(e.health[0][f"{mode}_mode_loss"] for mode in ("eval", "train"))  # BatchNorm knows nothing yet in the one
    loss /= max(e.floor.loss, 1e-9)
    alike = e.alike
    return Verdict(
        "poor initialisation",
        max(_too_small(e), ramp(math.log10(max(high, 1e-12)), 0.4, 0.7) * ramp(loss, 2, 5)),
        {
            "smallest first weights": low,
            "largest first weights": high,
            "all units alike": alike,
            "first loss over trivial": loss,
        },
        "The first weights are all alike, so that all units of a layer learn the same, or of a size that makes "
        "outputs vanish or explode. Size: deviation times the root of the inputs; torch's is 0.58, He's 1.41.",
        ("S1.59", "S2.15"),
        (
            Remedy("the layers' own first weights: leave weight_init out"),
            Remedy("He's for ReLU, Xavier's or LeCun's for tanh and sigmoid"),
        ),
    )


def batchnorm(e: Evidence) -> Verdict | None:
    if not e.norms or len(e.health) < 2:
        return None
    later = slice(len(e.health) // 2, None)
    eval_mode, train_mode = (float(np.mean(e.over_time(f"{m}_mode_loss")[later])) for m in ("eval", "train"))
    apart, ratio = (eval_mode - train_mode) / max(e.floor.loss, 1e-9), eval_mode / max(train_mode, 1e-9)
    few = SECOND * ramp(e.batch, 9, 4)  # what so few rows say of mean and deviation is mostly noise
    behind = min(e.batch * e.memory, e.rows)
    differ = np.abs(e.over_time("eval_mode_loss") - e.over_time("train_mode_loss")).max() / max(e.floor.loss, 1e-9)
    shaky = ramp(excess(e), 0.02, 0.15) * ramp(float(differ), 0.02, 0.06)  # better at one look, worse at the next
    forgetful = ramp(behind, 40, 12) * ramp(e.memory, 12, 8) * max(shaky, SECOND)
    return Verdict(
        "misleading BatchNorm statistics",
        max(ramp(apart, 0.05, 0.2) * ramp(ratio, 1.2, 1.6), few, forgetful),
        {
            "loss in evaluation mode": eval_mode,
            "in training mode, same rows": train_mode,
            "rows a batch": e.batch,
            "rows behind the running statistics": behind,
            "steps": e.steps,
        },
        "On the same rows the net is much worse in evaluation, where it uses the running statistics, than in "
        "training, where it uses the batch's: these statistics are not those of the data.",
        ("S1.55", "S4.14", "S4.13"),
        (
            Remedy("larger batches", {"batch_size": max(32, 8 * e.batch)}),
            Remedy("BatchNorm(momentum=0.1), and more steps for it to settle"),
            Remedy("LayerNorm, which needs no statistics"),
        ),
    )


def last_layer(e: Evidence) -> Verdict | None:
    if "NLLLoss" in e.losses and e.ends != "LogSoftmax" and e.ends != "log_softmax":
        return _no_logarithms(e)
    if not e.ends or not e.losses & WIDE:
        return None
    what = "numbers around 0, some beyond its range" if not e.facts.classes else "logits, of any size and sign"
    return Verdict(
        "unfitting output layer",
        0.97,
        {"the net ends in": e.ends, "the loss wants": what, "training error": e.train.error},
        f"The net ends in {e.ends}, and the loss takes {what}: predictions are pressed into a range that does not fit "
        "them" + (", and the loss applies sigmoid or softmax once more." if e.facts.classes else "."),
        ("S1.35", "S1.37", "S2.13"),
        (Remedy(f"take {e.ends} off: end with the Linear layer before it"),),
    )


def _no_logarithms(e: Evidence) -> Verdict:
    """NLLLoss takes its outputs as logarithms of probabilities and does not look: it falls for ever."""
    return Verdict(
        "unfitting output layer",
        0.97,
        {
            "the net ends in": e.ends or "no LogSoftmax",
            "the loss wants": "logarithms of probabilities",
            "training error": e.train.error,
        },
        "NLLLoss takes what comes out for logarithms of probabilities, and the net ends without LogSoftmax: the loss "
        "falls without bound as outputs grow.",
        ("S1.36", "S1.37", "S2.13"),
        (Remedy("end the net with LogSoftmax"), Remedy("CrossEntropyLoss, which takes logits", {"loss": None})),
    )


RULES = (vanishing, exploding, dead, saturated, first_weights, batchnorm, last_layer)

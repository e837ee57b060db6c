"""Bad input of layers, losses, optimisers and schedules: one message each, with the layer and where it stands in the net.

The place is printed as the command line prints it; a value in a file has the path of its field.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from derin import nn, spec
from derin.cli import _which_layer
from derin.distributions import choice
from derin.errors import DerinError, ModelError, SpecError


def floats(*shape: int) -> jax.Array:
    return jnp.ones(shape)


def ints(*shape: int) -> jax.Array:
    return jnp.ones(shape, jnp.int32)


def nested(layer: nn.Module) -> nn.Module:
    """A net whose `1.1` is the layer."""
    return nn.Sequential(nn.Identity(), nn.Sequential(nn.Identity(), layer))


def one_message(error: DerinError, *words: str) -> None:
    """It says what the words say, in one line that ends, and comes from no other error."""
    text = str(error) + _which_layer(error)
    for word in words:
        assert word in text
    assert "\n" not in str(error) and str(error).endswith("."), text
    assert len(str(error)) < 320
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


# -- inputs that do not fit: (layer, input, words)

FORWARD: dict[str, tuple[nn.Module, Any, str]] = {
    # whole numbers where floats are computed with
    "Linear, whole numbers": (nn.Linear(3), ints(2, 4), "got int32 of shape (2, 4). Convert it: x.astype(jnp.float32)"),
    "Linear, true and false": (nn.Linear(3), jnp.ones((2, 4), bool), "needs a float input [..., in], got bool"),
    "Conv2d, whole numbers": (nn.Conv2d(3, 3), ints(2, 8, 8, 1), "needs a float input [batch, height, width, channels]"),
    "BatchNorm, whole numbers": (nn.BatchNorm(), ints(2, 4), "needs a float input [..., channels], got int32"),
    "LSTM, whole numbers": (nn.LSTM(3), ints(2, 4, 3), "needs a float input [batch, time, in], got int32"),
    "Dropout, whole numbers": (nn.Dropout(0.5), ints(2, 3), "needs a float input [...], got int32"),
    "AlphaDropout, whole numbers": (nn.AlphaDropout(0.5), ints(2, 3), "needs a float input [...], got int32"),
    "MultiheadAttention, whole numbers": (nn.MultiheadAttention(4, 2), ints(2, 5, 4), "got int32 of shape (2, 5, 4)"),
    "Embedding, floats": (nn.Embedding(5, 3), floats(2), "needs whole numbers (codes), got float32 of shape (2,)"),
    # what is no array
    "Linear, nothing": (nn.Linear(3), None, "needs one array [..., in], got None"),
    # too few or too many axes
    "Linear, a number": (nn.Linear(3), floats(), "needs an input [..., in], got shape ()"),
    "Conv1d, no length": (nn.Conv1d(3, 3), floats(2, 8), "[batch, length, channels], got shape (2, 8)"),
    "Conv2d, no channels": (nn.Conv2d(3, 3), floats(2, 8, 8), "channels], got shape (2, 8, 8)"),
    "ConvTranspose2d, a row": (nn.ConvTranspose2d(3, 3), floats(2, 8), "channels], got shape (2, 8)"),
    "MaxPool2d, a row": (nn.MaxPool2d(2), floats(2, 4), "channels], got shape (2, 4)"),
    "AdaptiveAvgPool2d, a row": (nn.AdaptiveAvgPool2d(2), floats(2, 4), "channels], got shape (2, 4)"),
    "GlobalAvgPool, a row": (nn.GlobalAvgPool(), floats(2, 4), "with something in between, got shape (2, 4)"),
    "BatchNorm, no batch": (nn.BatchNorm(), floats(4), "[..., channels], got shape (4,)"),
    "LayerNorm, too few axes": (nn.LayerNorm(3), floats(2, 4), "with 3 axes to normalise after the batch's"),
    "LSTM, no time": (nn.LSTM(3), floats(2, 4), "[batch, time, in], got shape (2, 4)"),
    "RNNCell, with time": (nn.RNNCell(3), floats(2, 5, 4), "[batch, in], got shape (2, 5, 4)"),
    "Upsample, one axis": (nn.Upsample(2, mode="bilinear"), floats(2, 4, 1), "the input (2, 4, 1) has 1"),
    "Flatten, no such axis": (nn.Flatten(3, 4), floats(2, 3), "start_dim=3, but the input (2, 3) has 2 axes"),
    # sizes that do not go together
    "Conv2d, groups": (nn.Conv2d(4, 3, groups=2), floats(2, 8, 8, 3), "2 groups do not divide the 3 channels"),
    "Conv2d, a small map": (nn.Conv2d(3, 5), floats(2, 4, 4, 1), "reaches over 5 values, the input (2, 4, 4, 1)"),
    "ConvTranspose2d, all cut": (nn.ConvTranspose2d(3, 1, padding=3), floats(2, 2, 2, 1), "padding=3 cuts all of the"),
    "ReflectionPad1d, too far": (nn.ReflectionPad1d(5), floats(2, 3, 1), "has 3 values and needs 6"),
    "MaxPool2d, a small map": (nn.MaxPool2d(9), floats(2, 4, 4, 1), "the window is 9 long"),
    "GroupNorm, groups": (nn.GroupNorm(3), floats(2, 4), "3 groups do not divide the 4 channels"),
    "Unflatten, sizes": (nn.Unflatten(1, (3, 3)), floats(2, 8), "the 8 values of axis 1 of the input (2, 8)"),
    "PixelShuffle, channels": (nn.PixelShuffle(2), floats(2, 4, 4, 3), "2 x 2 does not divide the 3 channels"),
    "GLU, an odd half": (nn.GLU(), floats(2, 3), "halves axis 1, so its size must be even; got an input of shape (2, 3)"),
    "PReLU, slopes": (nn.PReLU(5), floats(2, 3), "PReLU has 5 slopes, so its input must be [batch, ..., 5]"),
    "MultiheadAttention, features": (nn.MultiheadAttention(6, 3), floats(2, 5, 4), "embed_dim=6, the query (2, 5, 4)"),
    "LearnedPositions, too long": (nn.LearnedPositions(3), floats(2, 4, 2), "has 3 places, the input (2, 4, 2) has 4"),
    "Residual, another shape": (nn.Residual(nn.Linear(3)), floats(2, 4), "turned (2, 4) into (2, 3)"),
    "Split, sizes": (nn.Split(2, 5), floats(2, 4), "the sizes (2, 5) add up to 7"),
    "Bilinear, one input": (nn.Bilinear(3), floats(2, 4), "needs two inputs [..., in1] and [..., in2]"),
    # nothing to compute with
    "LSTM, no step": (nn.LSTM(3), floats(2, 0, 4), "at least one step of time, got an input of shape (2, 0, 4)"),
    "GRU, no step": (nn.GRU(3), floats(2, 0, 4), "at least one step of time, got an input of shape (2, 0, 4)"),
    "MultiheadAttention, no step": (nn.MultiheadAttention(4, 2), floats(2, 0, 4), "but the batch's, got shape (2, 0, 4)"),
    "GlobalAvgPool, no place": (nn.GlobalAvgPool(), floats(2, 0, 3), "but the batch's, got shape (2, 0, 3)"),
    "GlobalMaxPool, no place": (nn.GlobalMaxPool(), floats(2, 0, 3), "but the batch's, got shape (2, 0, 3)"),
    "AdaptiveMaxPool1d, no place": (nn.AdaptiveMaxPool1d(2), floats(2, 0, 3), "but the batch's, got shape (2, 0, 3)"),
    "Conv2d, no channel": (nn.Conv2d(3, 3), floats(2, 8, 8, 0), "but the batch's, got shape (2, 8, 8, 0)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORWARD)
def test_an_input_that_does_not_fit(kind: str) -> None:
    layer, x, words = FORWARD[kind]
    with pytest.raises(ModelError) as caught:
        nested(layer).init(jax.random.key(0), x)
    one_message(caught.value, words, f" [in 1.1 ({kind.partition(',')[0]}), input ")


def test_layers_that_give_several_arrays_to_one_that_takes_one() -> None:
    net = nn.Sequential(nn.Branches(nn.Linear(3), nn.Linear(4)), nn.Linear(2))
    with pytest.raises(ModelError) as caught:
        net.init(jax.random.key(0), floats(2, 5))
    one_message(
        caught.value, "needs one array [..., in], got 2 of shapes (2, 3), (2, 4). Join() makes", " [in 1 (Linear)"
    )
    net = nn.Sequential(nn.Branches(nn.Linear(3), nn.Linear(4)), nn.Join("sum"))
    with pytest.raises(ModelError) as caught:
        net.init(jax.random.key(0), floats(2, 5))
    one_message(caught.value, "Join('sum') needs arrays of one shape, got (2, 3), (2, 4)", " [in 1 (Join)")
    with pytest.raises(ModelError) as caught:
        net.init(jax.random.key(0), "iris")
    one_message(caught.value, "Sequential needs arrays as inputs, or jax.ShapeDtypeStruct, got 'iris' (str)")


def test_the_path_goes_down_into_a_layers_own_layers() -> None:
    for layer, path, x in (
        (nn.MLP((3,), 2), "1.1.hidden.0 (Linear)", ints(2, 3)),
        (nn.TransformerEncoderLayer(6, 3), "1.1.self_attn (MultiheadAttention)", floats(2, 5, 4)),
        (nn.LastStep(nn.GRU(3)), "1.1 (LastStep)", floats(2, 0, 4)),
    ):
        with pytest.raises(ModelError) as caught:
            nested(layer).init(jax.random.key(0), x)
        one_message(caught.value, f" [in {path}, input ")


# -- an initialised net: (layer, the input it was made for, the input that came, words)

APPLIED: dict[str, tuple[nn.Module, Any, Any, str]] = {
    "Linear, another width": (nn.Linear(3), floats(2, 4), floats(2, 5), "'1.1.weight' has shape (3, 4), but this input needs (3, 5)"),
    "Conv2d, other channels": (nn.Conv2d(3, 3), floats(2, 8, 8, 1), floats(2, 8, 8, 2), "'1.1.weight' has shape (3, 1, 3, 3), but"),
    "LSTM, another width": (nn.LSTM(3), floats(2, 4, 3), floats(2, 4, 5), "'1.1.weight_ih_l0' has shape (12, 3), but"),
    "BatchNorm, other channels": (nn.BatchNorm(), floats(2, 4), floats(2, 5), "'1.1.running_mean' has shape (4,), but"),
    "BatchNorm, an empty batch": (nn.BatchNorm(), floats(2, 4), floats(0, 4), "got an empty batch in training, of shape (0, 4)"),
    "InstanceNorm, an empty batch": (nn.InstanceNorm(track_running_stats=True), floats(2, 3, 4), floats(0, 3, 4), "got an empty batch in training"),
    "Embedding, a code too large": (nn.Embedding(5, 2), ints(2), jnp.array([1, 9]), "has 5 codes, 0 to 4; the input has 1 to 9"),
    "Embedding, a negative code": (nn.Embedding(5, 2), ints(2), jnp.array([-1, 3]), "has 5 codes, 0 to 4; the input has -1 to 3"),
    "Linear, a list": (nn.Linear(3), floats(1, 2), [[1.0, 2.0]], "got [[1.0, 2.0]] (list). Convert it: jnp.asarray(x)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", APPLIED)
def test_an_input_that_an_initialised_net_cannot_take(kind: str) -> None:
    layer, good, bad, words = APPLIED[kind]
    net = nested(layer)
    params, state = net.init(jax.random.key(0), good)
    with pytest.raises(ModelError) as caught:
        net.apply(params, state, bad, train=True, key=jax.random.key(1))
    one_message(caught.value, words, f" [in 1.1 ({kind.partition(',')[0]}), input ")


def test_empty_batches_that_can_be_answered_are() -> None:
    for layer in (nn.Linear(3), nn.BatchNorm(), nn.GroupNorm(2), nn.LayerNorm()):
        params, state = nested(layer).init(jax.random.key(0), floats(2, 4))
        y, _ = nested(layer).apply(params, state, floats(0, 4))
        assert y.shape in ((0, 3), (0, 4))


class Read(nn.Module):
    """A net that is told how long its sequences are.   x: [batch, time, in], lengths: [batch] -> [batch, time, 3]"""

    def setup(self) -> None:
        self.layers = [nn.Identity(), nn.LSTM(3)]

    def forward(self, x: jax.Array, lengths: Any) -> jax.Array:
        return self.layers[1](x, None, lengths)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [
        ([4, 0], "a sequence of length 0 came; the input has 4 steps, so lengths go from 1 to 4. Leave empty sequences out"),
        ([4, 5], "a sequence of length 5 came; the input has 4 steps"),
        ([-1, 2], "a sequence of length -1 came"),
        ([4], "needs lengths that are whole numbers [batch], got int32 of shape (1,) for a batch of 2"),
        ([4.0, 2.0], "needs lengths that are whole numbers [batch], got float32 of shape (2,)"),
    ],
)  # fmt: skip
def test_lengths_of_sequences_that_cannot_be(lengths: list, words: str) -> None:
    x, given = floats(2, 4, 3), jnp.array(lengths)
    params, state = Read().init(jax.random.key(0), x, jnp.array([4, 4]))
    with pytest.raises(ModelError) as caught:
        Read().apply(params, state, x, given)
    one_message(caught.value, words, " [in layers.1 (LSTM), input ")


# -- values in files: (where in the experiment, class, fields, words)

FILES: list[tuple[str, str, dict[str, Any], str]] = [
    # sizes
    ("net.layers.1", "Linear", {"features": 0}, "Linear.features must be at least 1, got 0"),
    ("net.layers.1", "Linear", {"features": -3}, "Linear.features must be at least 1, got -3"),
    ("net.layers.1", "Linear", {"features": 2.5}, "Linear.features must be a whole number, got 2.5 (float)"),
    ("net.layers.1", "Linear", {}, "Linear needs a value for 'features'"),
    ("net.layers.1", "MLP", {"widths": [8, -8]}, "MLP.widths must be at least 1, got (8, -8)"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": 0}, "Conv2d.kernel_size must be at least 1, got 0"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": [3, 3, 3]}, "a tuple of 2 (height, width), got (3, 3, 3)"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": 3, "stride": 0}, "Conv2d.stride must be at least 1, got 0"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": 3, "padding": -1}, "Conv2d.padding must be at least 0, got -1"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": 3, "groups": 3}, "3 groups do not divide 8 features"),
    ("net.layers.1", "MaxPool2d", {"kernel_size": 2, "padding": 2}, "at most half of the kernel, got padding=2"),
    ("net.layers.1", "AdaptiveAvgPool2d", {"output_size": 0}, "AdaptiveAvgPool2d.output_size must be at least 1"),
    ("net.layers.1", "GroupNorm", {"num_groups": 0}, "GroupNorm.num_groups must be at least 1, got 0"),
    ("net.layers.1", "Embedding", {"count": 0, "features": 4}, "Embedding.count must be at least 1, got 0"),
    ("net.layers.1", "Embedding", {"count": 5, "features": 4, "padding_idx": 5}, "one of the 5 codes, 0 to 4, got 5"),
    ("net.layers.1", "LSTM", {"hidden_size": 4, "num_layers": 0}, "LSTM.num_layers must be at least 1, got 0"),
    ("net.layers.1", "LSTM", {"hidden_size": 4, "proj_size": 4}, "proj_size must be smaller than hidden_size=4, got 4"),
    ("net.layers.1", "MultiheadAttention", {"embed_dim": 6, "num_heads": 4}, "4 heads do not divide embed_dim=6"),
    # rates and other shares
    ("net.layers.1", "Dropout", {"rate": 1.0}, "Dropout.rate must be in [0, 1), got 1.0. It is the share"),
    ("net.layers.1", "Dropout", {"rate": -0.1}, "Dropout.rate must be in [0, 1), got -0.1"),
    ("net.layers.1", "Dropout", {"rate": {"float": "nan"}}, "Dropout.rate must be in [0, 1), got nan"),
    ("net.layers.1", "Dropout2d", {"rate": 1.5}, "Dropout2d.rate must be in [0, 1), got 1.5"),
    ("net.layers.1", "GRU", {"hidden_size": 4, "dropout": 1.0}, "GRU.dropout must be in [0, 1), got 1.0"),
    ("net.layers.1", "BatchNorm", {"momentum": 2.0}, "BatchNorm.momentum must be in [0, 1], got 2.0"),
    ("net.layers.1", "BatchNorm", {"eps": -1.0}, "BatchNorm.eps must be 0 or more, got -1.0"),
    ("net.layers.1", "RReLU", {"lower": 0.5, "upper": 0.1}, "RReLU.lower must be at most upper, got 0.5 and 0.1"),
    # names
    ("net.layers.1", "Lineer", {"features": 3}, "no spec is called 'Lineer'. Nearest: Linear"),
    ("net.layers.1", "Linear", {"features": 3, "biass": True}, "Linear has no field 'biass'. Nearest: bias, bias_init"),
    ("net.layers.1", "MLP", {"activation": "rellu"}, "no function is called 'rellu'. Nearest: relu"),
    ("net.layers.1", "Conv2d", {"features": 8, "kernel_size": 3, "padding_mode": "mirror"}, "one of 'zeros', 'reflect', 'replicate', 'circular', got 'mirror'"),
    ("net.layers.1", "Linear", {"features": 3, "weight_init": "he"}, "Linear.weight_init must be a function or none, got 'he' (str)"),
    # what weights start as
    ("net.layers.1.weight_init", "Normal", {"std": -1.0}, "Normal.std must be 0 or more, got -1.0"),
    ("net.layers.1.weight_init", "Uniform", {"bound": -0.1}, "Uniform.bound must be 0 or more, got -0.1"),
    ("net.layers.1.weight_init", "TruncatedNormal", {"a": 2.0, "b": 1.0}, "TruncatedNormal.a must be below b, got 2.0 and 1.0"),
    ("net.layers.1.weight_init", "HeNormal", {"nonlinearity": "rellu"}, "no gain is known for 'rellu'. Nearest: relu"),
    ("net.layers.1.weight_init", "Sparse", {"sparsity": 1.5}, "Sparse.sparsity must be in [0, 1], got 1.5"),
    # losses
    ("loss", "HuberLoss", {"delta": -1.0}, "HuberLoss.delta must be above 0, got -1.0"),
    ("loss", "QuantileLoss", {"quantile": 1.5}, "QuantileLoss.quantile must be between 0 and 1, got 1.5"),
    ("loss", "CrossEntropyLoss", {"label_smoothing": 1.5}, "CrossEntropyLoss.label_smoothing must be in [0, 1], got 1.5"),
    ("loss", "CrossEntropyLoss", {"weight": [1.0, -1.0]}, "CrossEntropyLoss.weight must be 0 or more, got (1.0, -1.0)"),
    ("loss", "BCEWithLogitsLoss", {"pos_weight": -2.0}, "BCEWithLogitsLoss.pos_weight must be 0 or more, got -2.0"),
    ("loss", "MSELoss", {"reduction": "avg"}, "MSELoss.reduction must be one of 'none', 'mean', 'sum', got 'avg'"),
    # optimisers, averages, penalties, clipping
    ("optimizer", "SGD", {"learning_rate": -0.1}, "SGD.learning_rate must be a positive, finite number"),
    ("optimizer", "SGD", {"momentum": -1.0}, "SGD.momentum must be 0 or more, often 0.9, got -1.0"),
    ("optimizer", "SGD", {"nesterov": True}, "needs a momentum above 0 and no dampening, got momentum=0.0"),
    ("optimizer", "Adam", {"betas": [0.9, 1.0]}, "Adam.betas.1 must be in [0, 1), got 1.0"),
    ("optimizer", "AdamW", {"weight_decay": -1.0}, "AdamW.weight_decay must be 0 or more, got -1.0"),
    ("optimizer", "Rprop", {"etas": [1.2, 0.5]}, "Rprop.etas.0 must be below 1, got 1.2"),
    ("optimizer", "LBFGS", {"history_size": 0}, "LBFGS.history_size must be 1 or more"),
    ("average", "EMA", {"decay": 1.0}, "EMA.decay must be in [0, 1)"),
    ("penalty", "L2", {"strength": -1.0}, "L2.strength must be 0 or more"),
    ("penalty", "MaxNorm", {"limit": 0.0}, "MaxNorm.limit must be above 0, got 0.0"),
    ("clip", "ClipByGlobalNorm", {"limit": 0.0}, "ClipByGlobalNorm.limit must be above 0, got 0.0"),
    # schedules
    ("schedule", "StepLR", {"step_size": 0}, "StepLR.step_size must be above 0"),
    ("schedule", "StepLR", {"step_size": 3, "by": "batch"}, "StepLR.by must be one of 'epoch', 'step', got 'batch'"),
    ("schedule", "ExponentialLR", {"gamma": -0.5}, "ExponentialLR.gamma must be a factor of the learning rate, 0 or more"),
    ("schedule", "CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 0}, "T_mult must be at least 1, got 0"),
    ("schedule", "OneCycleLR", {"pct_start": 1.5}, "OneCycleLR.pct_start must be"),
    ("schedule", "ReduceLROnPlateau", {"patience": -1}, "ReduceLROnPlateau.patience must be 0 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "kind", "fields", "words"), FILES, ids=lambda v: v if isinstance(v, str) else None)
def test_a_value_of_a_file_that_cannot_be(path: str, kind: str, fields: dict[str, Any], words: str) -> None:
    """The experiment's file names the path of the class; what the class says follows."""
    bad = {"type": kind, **fields}
    place, _, inner = path.partition(".")
    data: dict[str, Any] = {"type": "Experiment", "net": {"type": "Linear", "features": 2}}
    if place == "net":
        layer = {"type": "Linear", "features": 3, "weight_init": bad} if inner.endswith("weight_init") else bad
        data["net"] = {"type": "Sequential", "layers": [{"type": "Identity"}, layer]}
    else:
        data[place] = bad
    with pytest.raises(SpecError) as caught:
        spec.from_dict(data)
    one_message(caught.value, words, "" if kind == "Lineer" else f"at '{path}': ")


# -- losses: (loss, inputs, words)

LOGITS, SCORES = floats(2, 3), jnp.array([0.5, 0.5])
LOSSES: list[tuple[nn.Loss, tuple[Any, ...], str]] = [
    # class indices
    (nn.CrossEntropyLoss(), (LOGITS, jnp.array([0, 3])), "labels go from 0 to 2"),
    (nn.CrossEntropyLoss(), (LOGITS, jnp.array([0, -1])), "got -1"),
    (nn.NLLLoss(), (LOGITS, jnp.array([0, 5])), "labels go from 0 to 2"),
    (nn.FocalLoss(), (LOGITS, jnp.array([0, 5])), "labels go from 0 to 2"),
    (nn.MultiMarginLoss(), (LOGITS, jnp.array([0, 5])), "labels go from 0 to 2; got 5"),
    (nn.CrossEntropyLoss(), (LOGITS, jnp.array([0.0, 1.0])), "Give int labels (2,), or probabilities (2, 3)"),
    # probabilities
    (nn.CrossEntropyLoss(), (LOGITS, jnp.array([[0.5, 0.5, 0], [-0.5, 1, 0.5]])), "must be probabilities, from 0 to 1; int labels are classes; got -0.5"),
    (nn.BCELoss(), (jnp.array([0.5, 1.5]), jnp.array([0, 1])), "must be probabilities, from 0 to 1; BCEWithLogitsLoss takes logits; got 1.5"),
    (nn.BCELoss(), (SCORES, jnp.array([0.0, 2.0])), "the target must be from 0 to 1; got 2.0"),
    (nn.BCEWithLogitsLoss(), (SCORES, jnp.array([0.0, -1.0])), "the target must be from 0 to 1; got -1.0"),
    (nn.SigmoidFocalLoss(), (SCORES, jnp.array([0.0, 2.0])), "the target must be from 0 to 1; got 2.0"),
    (nn.MultiLabelSoftMarginLoss(), (LOGITS, 2 * LOGITS), "the target must be from 0 to 1; got 2.0"),
    (nn.KLDivLoss(), (LOGITS, -LOGITS), "the target must be probabilities"),
    (nn.HingeLoss(), (SCORES, jnp.array([0.0, 2.0])), "labels are 1, and -1 or 0 for the other class; got 2.0"),
    # counts, rates, variances
    (nn.PoissonNLLLoss(), (SCORES, jnp.array([3.0, -1.0])), "the target must be counts, 0 or more; got -1.0"),
    (nn.PoissonNLLLoss(log_input=False), (-SCORES, SCORES), "the output must be rates, 0 or more"),
    (nn.GaussianNLLLoss(), (SCORES, SCORES, -SCORES), "a variance is 0 or more"),
    # shapes
    (nn.MSELoss(), (floats(2, 3), floats(2, 4)), "needs output and target of one shape, got (2, 3) and (2, 4)"),
    (nn.CrossEntropyLoss(), (LOGITS, jnp.array([0, 1, 2])), "got shapes (2, 3) and (3,)"),
    (nn.CrossEntropyLoss(weight=(1.0, 2.0)), (LOGITS, jnp.array([0, 1])), "weight has 2 values, the output has 3 classes"),
    (nn.BCEWithLogitsLoss(pos_weight=(1.0, 2.0)), (LOGITS, LOGITS), "pos_weight has 2 values, the output (2, 3) has 3 labels"),
    (nn.TripletMarginLoss(), (floats(2, 3), floats(2, 3), floats(2, 4)), "needs inputs of one shape"),
    (nn.GaussianNLLLoss(), (SCORES, SCORES), "takes output, target, var: 2 arrays came"),
    # nothing to take a mean of
    (nn.MSELoss(), (floats(0), floats(0)), "got an empty batch, of shape (0,): it has no mean"),
    (nn.CrossEntropyLoss(), (floats(0, 3), ints(0)), "got an empty batch, of shape (0, 3): it has no mean"),
    # sequences
    (nn.CTCLoss(), (floats(2, 5, 3), jnp.array([[1, 2], [3, 1]]), jnp.array([5, 5]), jnp.array([2, 2])), "without the blank, 0; got 3"),
    (nn.CTCLoss(), (floats(2, 5, 3), jnp.array([[1, 2], [2, 1]]), jnp.array([5, 6]), jnp.array([2, 2])), "input_lengths go from 0 to the time steps, 5; got 6"),
    (nn.CTCLoss(), (floats(2, 5, 3), jnp.array([[1, 2], [2, 1]]), jnp.array([5, 5]), jnp.array([2, 3])), "target_lengths go from 0 to the labels of a row, 2; got 3"),
]  # fmt: skip


@pytest.mark.parametrize(("loss", "inputs", "words"), LOSSES, ids=lambda v: type(v).__name__)
def test_what_a_loss_cannot_compare(loss: nn.Loss, inputs: tuple[Any, ...], words: str) -> None:
    with pytest.raises(ModelError) as caught:
        loss(*inputs)
    one_message(caught.value, words, type(loss).__name__)


def test_a_compiled_program_does_not_look_at_values() -> None:
    """What only the values tell is refused where they can be seen; a traced one costs nothing and raises nothing."""
    half = jnp.array([[0.5, 0.5, 0.0], [-0.5, 1.0, 0.5]])
    assert jax.jit(nn.CrossEntropyLoss())(LOGITS, half).shape == ()
    assert bool(jnp.isnan(jax.jit(nn.CrossEntropyLoss())(LOGITS, jnp.array([0, 3]))))
    assert bool(jnp.isnan(jax.jit(nn.BCELoss())(jnp.array([0.5, 1.5]), jnp.array([0.0, 1.0]))))


def test_given_vectors_that_are_no_table() -> None:
    for vectors, words in (
        ([1.0, 2.0], "needs vectors [count, features], got shape (2,)"),
        ([[1.0, 2.0], [3.0]], "needs vectors [count, features] of numbers"),
        (np.array([["a"]]), "needs vectors [count, features] of numbers"),
    ):
        with pytest.raises(SpecError) as caught:
            nn.Embedding.from_pretrained(vectors)
        one_message(caught.value, "Embedding.from_pretrained", words)


def test_a_choice_may_stand_where_a_function_does() -> None:
    space = nn.Linear(3, weight_init=choice(nn.HeNormal(), nn.XavierNormal()))
    assert spec.from_json(spec.to_json(space)) == space


def test_there_are_sixty_kinds_and_more() -> None:
    assert len(FORWARD) + len(APPLIED) + len(FILES) + len(LOSSES) > 120

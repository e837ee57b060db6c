"""torch's weights by name: the same outputs, what is permuted and said, and what is refused."""

import io
import tarfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from nn_against_torch import close, maps, numpy
from safetensors.torch import save_file

from derin import nn
from derin.errors import ModelError
from derin.nn import load_torch

t = torch.nn
torch.set_num_threads(1)


def normal(shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def lively(module):
    """No weight or statistic is where it starts."""
    with torch.no_grad():
        for p in module.parameters():
            p.uniform_(-0.5, 0.5)
        for name, b in module.named_buffers():
            if b.is_floating_point():
                b.uniform_(0.5, 1.5) if "var" in name else b.uniform_(-0.5, 0.5)
    return module.eval()


def same(net, module, *inputs, tolerance=2e-5):
    """The module's state_dict gives the net the module's outputs; the notes come back."""
    lively(module)
    params, state, notes = load_torch(net, module.state_dict(), *inputs)
    y = jax.jit(lambda *xs: net.apply(params, state, *xs)[0])(*inputs)
    close(y, numpy(module(*[torch.tensor(maps(x)) for x in inputs])), tolerance, "output")
    return notes


# -- by name


def test_a_cnn_with_a_flatten_and_norms_behind_it():
    ours = nn.Sequential(
        nn.Conv2d(4, 3), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.BatchNorm(), nn.Dropout(0.1), nn.Tanh(), nn.Linear(5), nn.Linear(2),
    )  # fmt: skip
    theirs = t.Sequential(
        t.Conv2d(3, 4, 3), t.BatchNorm2d(4), t.ReLU(), t.MaxPool2d(2), t.Flatten(),
        t.BatchNorm1d(24), t.Dropout(0.1), t.Tanh(), t.Linear(24, 5), t.Linear(5, 2),
    )  # fmt: skip
    notes = same(ours, theirs, normal((3, 6, 9, 3)))
    permuted = ["5.bias", "5.running_mean", "5.running_var", "5.weight", "8.weight"]
    assert sorted(n.split(" ")[0] for n in notes) == [f"'{name}'" for name in permuted]
    assert "axis 1 was permuted from (channel, height, width) = (4, 2, 3) to channels last" in " ".join(notes)


def test_a_map_that_is_flattened_by_hand_between_two_towers():
    class Ours(nn.Module):
        def setup(self):
            self.a, self.b, self.head = nn.Conv2d(3, 2), nn.Conv2d(2, 3, stride=2), nn.Linear(4)

        def forward(self, x):
            a, b = nn.relu(self.a(x)), self.b(x) * 2
            parts = [a.reshape(len(x), -1), b.mean((1, 2)), jnp.reshape(b, (len(x), -1))]
            return self.head(jnp.tanh(jnp.concatenate(parts, -1)))

    class Theirs(t.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = t.Conv2d(2, 3, 2), t.Conv2d(2, 2, 3, stride=2), t.Linear(3 * 20 + 2 + 2 * 4, 4)

        def forward(self, x):
            a, b = torch.relu(self.a(x)), self.b(x) * 2
            return self.head(torch.tanh(torch.cat([a.flatten(1), b.mean((2, 3)), b.flatten(1)], 1)))

    (note,) = same(Ours().replace(), Theirs(), normal((3, 5, 6, 2)))
    assert "(3, 4, 5) and (channel, height, width) = (2, 2, 2)" in note


def test_nothing_is_permuted_where_the_order_is_the_same():
    pooled = nn.Sequential(nn.Conv2d(4, 3), nn.MaxPool2d((4, 5)), nn.Flatten(), nn.Linear(2))
    theirs = t.Sequential(t.Conv2d(3, 4, 3), t.MaxPool2d((4, 5)), t.Flatten(), t.Linear(4, 2))
    assert same(pooled, theirs, normal((2, 6, 7, 3))) == ()
    grey = nn.Sequential(nn.Flatten(), nn.Linear(2))
    assert same(grey, t.Sequential(t.Flatten(), t.Linear(12, 2)), normal((2, 3, 4, 1))) == ()
    series = nn.Sequential(nn.Linear(3), nn.Flatten(), nn.Linear(2))
    assert same(series, t.Sequential(t.Linear(5, 3), t.Flatten(), t.Linear(12, 2)), normal((2, 4, 5))) == ()
    turned = nn.Sequential(FirstAgain(), nn.Flatten(), nn.Linear(2))
    assert same(turned, t.Sequential(t.Identity(), t.Flatten(), t.Linear(24, 2)), normal((2, 3, 4, 2))) == ()


class FirstAgain(nn.Module):
    """Channels first again.   x: [batch, h, w, c] -> [batch, c, h, w]"""

    def forward(self, x):
        return x.transpose(0, 3, 1, 2)


def test_a_layer_norm_over_whole_maps_is_permuted():
    ours = nn.Sequential(nn.Conv2d(4, 2), nn.LayerNorm(axes=3))
    lively(theirs := t.Sequential(t.Conv2d(3, 4, 2), t.LayerNorm((4, 5, 2))))
    x = normal((2, 6, 3, 3))
    params, state, notes = load_torch(ours, theirs.state_dict(), x)
    close(ours.apply(params, state, x)[0], np.moveaxis(numpy(theirs(torch.tensor(maps(x)))), 1, -1), 1e-5, "output")
    assert (
        notes[0]
        == "'1.weight' spans a map: its axes were permuted from (channel, height, width) = (4, 5, 2) to channels last."
    )


def test_sequences_transformer_and_recurrence():
    ours = nn.Sequential(
        nn.Linear(4),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6), 2, nn.LayerNorm()),
        nn.Flatten(),
        nn.Linear(2),
    )
    layer = t.TransformerEncoderLayer(4, 2, 6, batch_first=True)
    theirs = t.Sequential(
        t.Linear(3, 4),
        t.TransformerEncoder(layer, 2, t.LayerNorm(4), enable_nested_tensor=False),
        t.Flatten(),
        t.Linear(20, 2),
    )
    assert same(ours, theirs, normal((2, 5, 3)), tolerance=1e-4) == ()


def test_what_is_shared_stands_in_torch_under_each_of_its_places():
    one = t.Linear(3, 3)
    ours = nn.Sequential(nn.Shared("a", nn.Linear(3)), nn.Tanh(), nn.Shared("a", nn.Linear(3)))
    theirs = t.Sequential(one, t.Tanh(), one)
    same(ours, theirs, normal((4, 3)))
    wrong = {n: p + i for i, (n, p) in enumerate(theirs.state_dict().items())}
    with pytest.raises(ModelError, match=r"'2.weight' is shared as 'shared.a.weight', but differs from it"):
        load_torch(ours, wrong, normal((4, 3)))


def test_cumulative_statistics_bring_their_count():
    module = lively(t.Sequential(t.BatchNorm1d(3, momentum=None)))
    module.state_dict()["0.num_batches_tracked"].fill_(7)
    x = normal((4, 3))
    _, state, _ = load_torch(nn.Sequential(nn.BatchNorm(momentum=None)), module.state_dict(), x)
    assert state["0.num_batches_tracked"] == 7 and state["0.num_batches_tracked"].dtype == jnp.int32
    assert "0.num_batches_tracked" not in load_torch(nn.Sequential(nn.BatchNorm()), module.state_dict(), x)[1]


def test_a_frozen_embedding_gets_its_table_as_state():
    ours = nn.Embedding(5, 3, frozen=True)
    params, state, _ = load_torch(ours, t.Embedding(5, 3).state_dict(), np.array([[1, 2]]))
    assert params == {} and state["weight"].shape == (5, 3)


# -- files


def test_a_safetensors_file_and_the_prefix_of_data_parallel(tmp_path):
    module, x = lively(t.Sequential(t.Linear(3, 2))), normal((4, 3))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        path = tmp_path / "weights.safetensors"
        save_file({f"module.{n}": p.to(dtype) for n, p in module.state_dict().items()}, path)
        params, _, notes = load_torch(nn.Sequential(nn.Linear(2)), path, x)
        assert params["0.weight"].dtype == jnp.float32 and notes == ("'module.' before every name was left out.",)
        right = numpy(module[0].weight.to(dtype).float())
        np.testing.assert_array_equal(params["0.weight"], right)


def test_a_pickle_is_not_opened(tmp_path):
    torch.save(t.Linear(3, 2).state_dict(), tmp_path / "net.pt")
    with pytest.raises(ModelError, match=r"net.pt is not a .safetensors file. A pickle can run code") as caught:
        load_torch(nn.Linear(2), tmp_path / "net.pt", normal((1, 3)))
    line = str(caught.value).splitlines()[1]
    here = line.replace("'net.pt'", repr(str(tmp_path / "net.pt"))).replace(
        "'net.safe", repr(str(tmp_path))[:-1] + "/net.safe"
    )
    exec(here.strip())  # the line it shows works
    assert load_torch(nn.Linear(2), tmp_path / "net.safetensors", normal((1, 3))).params["weight"].shape == (2, 3)


@pytest.mark.parametrize(
    "weights, message",
    [
        (
            {"state_dict": {"weight": 1}, "epoch": 3},
            r"a checkpoint that holds a state_dict; pass checkpoint\['state_dict'\]",
        ),
        (t.Linear(3, 2), r"needs a state_dict .* got Linear. Of a torch module: module.state_dict\(\)"),
        ({"weight": torch.ones(2, 3, dtype=torch.bfloat16)}, r"'weight' cannot be read .*detach\(\).float\(\).cpu\(\)"),
        ("nowhere.safetensors", "nowhere.safetensors cannot be read"),
    ],
)
def test_what_is_no_state_dict_is_refused(weights, message):
    with pytest.raises(ModelError, match=message):
        load_torch(nn.Linear(2), weights, normal((1, 3)))


def test_a_mismatch_names_every_missing_extra_and_misshapen_array():
    net = nn.Sequential(nn.Linear(4), nn.Linear(2))
    found = {"0.weight": np.ones((4, 5)), "1.weight": np.ones((2, 4)), "head.weight": np.ones(3), "tail": np.ones(1)}
    with pytest.raises(ModelError) as caught:
        load_torch(net, found, normal((1, 3)))
    assert str(caught.value).splitlines()[0] == (
        "these torch weights belong to another net: missing '0.bias', '1.bias'; extra 'head.weight', 'tail'; "
        "'0.weight' has shape (4, 5), the net needs (4, 3)."
    )


# -- a published net


class Block(nn.Module):
    """x: [batch, h, w, c] -> [batch, h', w', planes]; the way around drops places and adds empty channels (option A)."""

    planes: int
    stride: int = 1

    def setup(self):
        self.conv1 = nn.Conv2d(self.planes, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(self.planes, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm(), nn.BatchNorm()

    def forward(self, x):
        around = x[:, :: self.stride, :: self.stride]
        more = (self.planes - x.shape[-1]) // 2
        around = jnp.pad(around, [(0, 0)] * 3 + [(more, more)])
        return nn.relu(around + self.bn2(self.conv2(nn.relu(self.bn1(self.conv1(x))))))


class ResNet20(nn.Module):
    """He et al. 2016 for CIFAR-10.   x: [batch, 32, 32, 3] -> [batch, 10]"""

    def setup(self):
        self.conv1, self.bn1 = nn.Conv2d(16, 3, 1, 1, bias=False), nn.BatchNorm()
        self.layer1 = [Block(16) for _ in range(3)]
        self.layer2 = [Block(32, 2), Block(32), Block(32)]
        self.layer3 = [Block(64, 2), Block(64), Block(64)]
        self.linear = nn.Linear(10)

    def forward(self, x):
        x = nn.relu(self.bn1(self.conv1(x)))
        for block in (*self.layer1, *self.layer2, *self.layer3):
            x = block(x)
        return self.linear(x.mean((1, 2)))


@pytest.mark.slow
def test_resnet_20_as_published_sees_what_it_saw_in_torch(shared_data):
    """In torch 85.5 % of 2,000 of these images, which are a lossy copy (data/README.md); here 30 of each kind."""
    from PIL import Image

    found = torch.load(
        shared_data / "weights/resnet_cifar10/resnet20-12fca82f.th", map_location="cpu", weights_only=False
    )
    net = ResNet20()
    params, state, notes = load_torch(net, found["state_dict"], jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32))
    assert notes == ("'module.' before every name was left out.",)
    assert sum(p.size for p in params.values()) == 269_722
    kinds = "airplane automobile bird cat deer dog frog horse ship truck".split()
    images, labels = [], []
    with tarfile.open(shared_data / "images/cifar10_jpg/cifar10_train_jpg.tar.gz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if member.isfile() and parts[-1].endswith(".jpg") and int(parts[-1][:4]) < 30:
                images.append(np.asarray(Image.open(io.BytesIO(tar.extractfile(member).read())).convert("RGB")))
                labels.append(kinds.index(parts[-2]))
    x = (np.stack(images) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    y = jax.jit(lambda x: net.apply(params, state, x)[0])(x.astype(np.float32))
    right = (np.asarray(y).argmax(1) == np.array(labels)).mean()
    assert len(labels) == 300 and right > 0.8  # 85.5 % of 2,000 training images in torch

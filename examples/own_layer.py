"""A layer of one's own: written, checked, trained and saved.   python examples/own_layer.py"""

import jax
import jax.numpy as jnp

import derin
from derin import nn, optim
from derin.testing import check_layer


class Residual(nn.Module):
    """x + scale * layer(x).   x: [batch, width] -> [batch, width]"""

    width: int
    scale: nn.Scalar = 1.0  # may be traced: a number, not a reason to compile again

    def setup(self) -> None:
        self.layer = nn.Linear(self.width)

    def forward(self, x: jax.Array) -> jax.Array:
        return x + self.scale * jax.nn.relu(self.layer(x))


if __name__ == "__main__":
    # jit = eager, vmap = a loop, bfloat16, gradients, the shape of the docstring, the file: silent if all is well
    check_layer(Residual(8), jax.random.normal(jax.random.key(0), (4, 8)))

    digits = derin.data.load("digits")
    net = nn.Sequential(nn.Linear(64), Residual(64), Residual(64, scale=0.5), nn.Linear(10))
    print(nn.summary(net, jnp.ones((1, 64))))
    run = derin.fit(net, digits, epochs=15, optimizer=optim.AdamW(2e-3), progress=False)
    print(f"accuracy {run.evaluate('test')['accuracy']:.3f} on rows it has not seen")
    print(derin.spec.to_json(run.experiment.net.layers[2]))

"""A network that writes like Shakespeare, a character at a time: an LSTM in a training loop of one's own.

    python examples/characters.py input.txt [STEPS]

Where derin.fit does not reach (a target for every step of a sequence), nets, losses and optimisers are pure functions
and go into any loop of JAX. It ends, after three minutes of processor time (nine on a machine with other work), with:

    step 1500: 1.508 nats a character, 1.599 on the last tenth
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from derin import nn, optim

text = Path(sys.argv[1]).read_text(encoding="utf-8")
total = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
BATCH, TIME, EVERY = 64, 64, min(250, total)
letters = sorted(set(text))
codes = np.searchsorted(letters, list(text)).astype(np.int32)
train, valid = jnp.asarray(codes[: len(codes) * 9 // 10]), codes[len(codes) * 9 // 10 :]
net = nn.Sequential(nn.Embedding(len(letters), 64), nn.LSTM(256), nn.Dropout(0.1), nn.Linear(len(letters)))
optimizer, clip = optim.Adam(3e-3), optim.ClipByGlobalNorm(1.0)
schedule = optim.Warmup(200, then=optim.CosineAnnealingLR(by="step"), by="step")
params, state = net.init(jax.random.key(0), jnp.zeros((1, TIME), jnp.int32))


def objective(params, piece, key):
    """The mean loss of the next character, in nats.   piece: [batch, time + 1] -> []"""
    out, _ = net.apply(params, state, piece[:, :-1], train=key is not None, key=key)
    return nn.CrossEntropyLoss()(out, piece[:, 1:])


@jax.jit
def steps(params, memory, start):
    """EVERY steps in one program."""

    def one(loop, i):
        params, memory = loop
        key = jax.random.fold_in(jax.random.key(1), i)
        at = jax.random.randint(key, (BATCH, 1), 0, len(train) - TIME - 1)
        loss, gradient = jax.value_and_grad(objective)(params, train[at + jnp.arange(TIME + 1)], key)
        rate = optimizer.learning_rate * schedule.factor(0, i, total, 1)
        update, memory = optimizer.update(clip(gradient), memory, params, rate)
        return (jax.tree.map(jnp.add, params, update), memory), loss

    return jax.lax.scan(one, (params, memory), start + jnp.arange(EVERY))


memory = optimizer.init(params)
pieces = jnp.asarray(valid[: len(valid) // 513 * 513].reshape(-1, 513))
judge = jax.jit(lambda params: objective(params, pieces, None))
for start in range(0, total, EVERY):
    (params, memory), losses = steps(params, memory, start)
    print(f"step {start + EVERY}: {losses.mean():.3f} nats a character, {judge(params):.3f} on the last tenth")

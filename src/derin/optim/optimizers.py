"""Optimisers: pure functions from gradients to updates, with PyTorch's names, defaults and rules.

    adam = Adam(learning_rate=1e-3)
    state = adam.init(params)
    updates, state = adam.update(grads, state, params, learning_rate)    # the rate that the schedule says now
    params = jax.tree.map(jnp.add, params, updates)

Every float is a leaf, so it may be traced: another learning rate, momentum or weight decay compiles nothing
anew, and a stack of optimisers runs under one vmap. `params` may be any pytree, one flat vector included.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from derin.errors import SpecError
from derin.spec import Scalar, Spec, nearest

Tree = Any  # a pytree of arrays, shaped like the parameters


class Optimizer(Spec):
    """What every optimiser has: a base learning rate, `init` and `update`.

    The engine multiplies `learning_rate` by the schedule's factor and hands the product to `update`.
    """

    learning_rate: Scalar = 1e-3

    # True: each weight's update depends on that weight alone, so all weights may come as one flat vector.
    elementwise: ClassVar[bool] = True

    def init(self, params: Tree) -> Any:
        """The state before the first step: a pytree of arrays whose structure never changes."""
        raise NotImplementedError(f"{type(self).__name__} has no init(self, params).")

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        """What to add to the parameters, and the next state.   grads, params: like init's params"""
        raise NotImplementedError(f"{type(self).__name__} has no update(...).")

    def check(self) -> None:
        require(
            self,
            "learning_rate",
            lambda v: 0 < v < float("inf"),
            "a positive, finite number, often between 1e-4 and 1e-1",
        )


class SGDState(NamedTuple):
    step: jax.Array  # int32: steps taken
    momentum_buffer: Tree  # like params; None where momentum is None


class SGD(Optimizer):
    """Gradient descent, with momentum if asked.   S0.17, S1.45; Sutskever et al. 2013 for the momentum.

        v <- momentum v + (1 - dampening) g        (the first step: v <- g, as in torch)
        w <- w - learning_rate v                   (nesterov: g + momentum v in place of v)

    `momentum` is a number that may be traced, so its buffer exists even at 0.0; `momentum=None` keeps none.
    The course's v <- b v + (1 - b) lr g (S1.46) has `momentum=b, dampening=b`, up to torch's first step.
    Raises SpecError for values that cannot work. Equals torch.optim.SGD.

    >>> import jax.numpy as jnp
    >>> sgd = SGD(learning_rate=0.1)
    >>> params = {"w": jnp.array([2.0, 2.0, 2.0])}                       # S0.22: one step by hand
    >>> grads = {"w": jnp.array([-10.0, -14.0, -18.0])}
    >>> updates, state = sgd.update(grads, sgd.init(params), params, learning_rate=0.01)
    >>> [round(w, 4) for w in (params["w"] + updates["w"]).tolist()]
    [2.1, 2.14, 2.18]
    """

    momentum: Scalar | None = 0.0
    dampening: Scalar = 0.0
    weight_decay: Scalar = 0.0
    nesterov: bool = False

    def check(self) -> None:
        super().check()
        require(self, "momentum", lambda v: 0 <= v < float("inf"), "0 or more, often 0.9")
        require(self, "weight_decay", lambda v: 0 <= v < float("inf"), "0 or more")
        require(self, "dampening", lambda v: abs(v) < float("inf"), "a finite number")
        if self.nesterov and (_is(self.momentum, 0) or self.momentum is None or _isnt(self.dampening, 0)):
            raise SpecError(
                "SGD(nesterov=True) needs a momentum above 0 and no dampening, "
                f"got momentum={self.momentum!r}, dampening={self.dampening!r}."
            )

    def init(self, params: Tree) -> SGDState:
        buffer = None if self.momentum is None else jax.tree.map(jnp.zeros_like, params)
        return SGDState(jnp.zeros((), jnp.int32), buffer)

    def update(self, grads: Tree, state: SGDState, params: Tree, learning_rate: Scalar) -> tuple[Tree, SGDState]:
        grads = jax.tree.map(lambda g, p: g + self.weight_decay * p, grads, params)
        step, buffer = state.step + 1, state.momentum_buffer
        if self.momentum is None:
            direction = grads
        else:
            # torch does not dampen the first step, nor when there is no momentum
            plain = (step == 1) | (jnp.asarray(self.momentum) == 0)
            share = jnp.where(plain, 1.0, 1 - jnp.asarray(self.dampening))
            buffer = jax.tree.map(lambda v, g: self.momentum * v + share * g, buffer, grads)
            direction = buffer
            if self.nesterov:
                direction = jax.tree.map(lambda v, g: g + self.momentum * v, buffer, grads)
        return jax.tree.map(lambda d: -learning_rate * d, direction), SGDState(step, buffer)


class AdamState(NamedTuple):
    step: jax.Array  # int32: steps taken
    exp_avg: Tree  # running mean of the gradient, like params
    exp_avg_sq: Tree  # running mean of its square, like params


class Adam(Optimizer):
    """Adam: steps from running means of the gradient and of its square.   S1.51

    Kingma & Ba 2015, arXiv:1412.6980.

        m <- b1 m + (1 - b1) g,     v <- b2 v + (1 - b2) g^2
        w <- w - learning_rate (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    `weight_decay` is L2: it is added to the gradient (AdamW's is not). Equals torch.optim.Adam.
    Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> params, grads = {"w": jnp.array([1.0, 1.0])}, {"w": jnp.array([0.5, -20.0])}
    >>> adam = Adam()
    >>> updates, state = adam.update(grads, adam.init(params), params, adam.learning_rate)
    >>> [round(u, 6) for u in updates["w"].tolist()]                     # the first step only has a sign
    [-0.001, 0.001]
    """

    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 0.0

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamState:
        return _adam_state(params)

    def update(self, grads: Tree, state: AdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamState]:
        grads = jax.tree.map(lambda g, p: g + self.weight_decay * p, grads, params)
        return _adam(grads, state, learning_rate, self.betas, self.eps)


class AdamW(Optimizer):
    """Adam whose weight decay acts on the weights and not on the gradient.   S1.52

    Loshchilov & Hutter 2019, arXiv:1711.05101. `eps` stands outside the root, as in Adam.

        w <- w - learning_rate weight_decay w,     then Adam's step.     Equals torch.optim.AdamW.

    Raises SpecError for values that cannot work.

    >>> import jax.numpy as jnp
    >>> params, grads = {"w": jnp.array([1.0, -1.0])}, {"w": jnp.zeros(2)}
    >>> adamw = AdamW(learning_rate=0.1, weight_decay=0.5)
    >>> adamw.update(grads, adamw.init(params), params, adamw.learning_rate)[0]["w"]
    Array([-0.05,  0.05], dtype=float32)
    """

    betas: tuple[Scalar, ...] = (0.9, 0.999)
    eps: Scalar = 1e-8
    weight_decay: Scalar = 1e-2

    def check(self) -> None:
        super().check()
        _check_adam(self)

    def init(self, params: Tree) -> AdamState:
        return _adam_state(params)

    def update(self, grads: Tree, state: AdamState, params: Tree, learning_rate: Scalar) -> tuple[Tree, AdamState]:
        updates, state = _adam(grads, state, learning_rate, self.betas, self.eps)
        decay = learning_rate * self.weight_decay
        return jax.tree.map(lambda u, p: u - decay * p, updates, params), state


def _adam_state(params: Tree) -> AdamState:
    zeros = jax.tree.map(jnp.zeros_like, params)
    return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))


def _adam(
    grads: Tree, state: AdamState, learning_rate: Scalar, betas: tuple[Scalar, ...], eps: Scalar
) -> tuple[Tree, AdamState]:
    """Adam's step, shared by Adam and AdamW."""
    beta1, beta2 = (jnp.asarray(b, jnp.float32) for b in betas)  # so that 1 - beta is the same everywhere
    step = state.step + 1
    m = jax.tree.map(lambda m, g: beta1 * m + (1 - beta1) * g, state.exp_avg, grads)
    v = jax.tree.map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state.exp_avg_sq, grads)
    size = learning_rate / _one_minus_power(beta1, step)
    root = jnp.sqrt(_one_minus_power(beta2, step))
    updates = jax.tree.map(lambda m, v: -size * m / (jnp.sqrt(v) / root + eps), m, v)
    return updates, AdamState(step, m, v)


def _one_minus_power(beta: Scalar, step: jax.Array) -> jax.Array:
    """1 - beta^step, without the cancellation that costs float32 four digits at the first steps."""
    return -jnp.expm1(step.astype(jnp.float32) * jnp.log(beta))


def _check_adam(spec: Adam | AdamW) -> None:
    if len(spec.betas) != 2:
        raise SpecError(f"{type(spec).__name__}.betas must be two numbers such as (0.9, 0.999), got {spec.betas!r}.")
    for i in (0, 1):
        require(spec, f"betas.{i}", lambda v: 0 <= v < 1, "in [0, 1)")
    require(spec, "eps", lambda v: 0 <= v < float("inf"), "0 or more, often 1e-8")
    require(spec, "weight_decay", lambda v: 0 <= v < float("inf"), "0 or more")


# -- optax


class Optax(Optimizer):
    """Any optimiser of optax by its name; `contrib.muon` names one of optax.contrib.

    `names` and `values` are its number options (traced: another value compiles nothing anew), `fixed` its
    other options as (name, value) pairs. `from_optax` writes them for you. Raises SpecError for an unknown
    name or option, and for optimisers that need more than gradients (line searches).

    >>> from_optax("lion", learning_rate=1e-4, b1=0.95)
    Optax(learning_rate=0.0001, name='lion', names=('b1',), values=(0.95,))
    """

    name: str = dataclasses.field(kw_only=True)
    names: tuple[str, ...] = ()
    values: tuple[Scalar, ...] = ()
    fixed: tuple[Any, ...] = ()

    elementwise: ClassVar[bool] = False  # some look at whole matrices or at norms

    def check(self) -> None:
        super().check()
        if len(self.names) != len(self.values):
            raise SpecError(f"Optax.names and Optax.values must pair up, got {self.names} and {self.values}.")
        self._try_out(_optax_function(self.name))

    def init(self, params: Tree) -> Any:
        return self._transformation(self.learning_rate).init(params)

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        return self._transformation(learning_rate).update(grads, state, params)

    def _transformation(self, learning_rate: Scalar) -> Any:
        """optax's pair of functions, built inside the trace: so the learning rate may be traced."""
        options = dict(zip(self.names, self.values, strict=True)) | dict(self.fixed)
        return _optax_function(self.name)(learning_rate=learning_rate, **options)

    def _try_out(self, function: Callable) -> None:
        """One abstract step, so that what cannot work is said now."""
        allowed = [n for n in inspect.signature(function).parameters if n != "learning_rate"]
        for pair in self.fixed:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)):
                raise SpecError(f"Optax.fixed must be pairs such as (('nesterov', True),), got {self.fixed!r}.")
        for name in (*self.names, *(n for n, _ in self.fixed)):
            if name not in allowed:
                raise SpecError(f"optax.{self.name} has no option {name!r}.{nearest(name, allowed)}")
        params = {"weight": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}

        def step(spec: Optax) -> Any:
            return spec.update(params, spec.init(params), params, spec.learning_rate)

        try:
            jax.eval_shape(step, self)
        except jax.errors.ConcretizationTypeError:
            raise SpecError(
                f"optax.{self.name} cannot take all of {self.names} as traced numbers. "
                f"Give them in fixed=((name, value), ...) instead."
            ) from None
        except Exception as error:
            raise SpecError(f"optax.{self.name} cannot be used as an optimiser here: {error}") from None


class OptaxTransformation(Optimizer):
    """An optax.GradientTransformation made in Python; see `as_optimizer`. A file cannot hold one.

    Its own learning rate is inside it; this one, times the schedule's factor, multiplies its updates.
    """

    learning_rate: Scalar = 1.0
    transformation: Any = None

    elementwise: ClassVar[bool] = False

    def init(self, params: Tree) -> Any:
        return self.transformation.init(params)

    def update(self, grads: Tree, state: Any, params: Tree, learning_rate: Scalar) -> tuple[Tree, Any]:
        updates, state = self.transformation.update(grads, state, params)
        return jax.tree.map(lambda u: learning_rate * u, updates), state

    def _before_saving(self) -> None:
        raise SpecError(
            "an optax.GradientTransformation object holds functions, so no file and no run can keep it. "
            "Name it instead: derin.optim.from_optax('adamw', learning_rate=1e-3, weight_decay=1e-4)."
        )


def from_optax(name: str, learning_rate: Scalar = 1e-3, **options: Any) -> Optax:
    """The optax optimiser of that name with its options: floats may be traced, the others are fixed.

    >>> from_optax("sgd", learning_rate=0.1, momentum=0.9, nesterov=True)
    Optax(learning_rate=0.1, name='sgd', names=('momentum',), values=(0.9,), fixed=(('nesterov', True),))
    """
    numbers = {k: v for k, v in options.items() if isinstance(v, (float, jax.Array))}
    fixed = tuple((k, v) for k, v in options.items() if k not in numbers)
    return Optax(learning_rate, name=name, names=tuple(numbers), values=tuple(numbers.values()), fixed=fixed)


def as_optimizer(value: Any) -> Optimizer:
    """An Optimizer as it is; an optax.GradientTransformation wrapped into one. Raises SpecError for others.

    >>> as_optimizer(SGD(0.1))
    SGD(learning_rate=0.1)
    """
    if isinstance(value, Optimizer):
        return value
    if isinstance(value, type):
        raise SpecError(f"an optimiser must be a value, and {value.__name__} is a class: write {value.__name__}().")
    if callable(getattr(value, "init", None)) and callable(getattr(value, "update", None)):
        return OptaxTransformation(transformation=value)
    raise SpecError(
        "an optimiser must be an Optimizer such as Adam(learning_rate=1e-3), "
        f"or an optax.GradientTransformation, got {value!r} ({type(value).__name__})."
    )


def _optax_function(name: str) -> Callable:
    """optax's function of that name, if it makes an optimiser from a learning rate."""
    import optax  # takes half a second: only those who ask for it pay
    import optax.contrib

    known = _makers(optax) | {f"contrib.{k}": f for k, f in _makers(optax.contrib).items()}
    if name not in known:
        raise SpecError(f"optax has no optimiser {name!r}.{nearest(name, known)}")
    return known[name]


def _makers(module: Any) -> dict[str, Callable]:
    functions = {k: f for k, f in vars(module).items() if inspect.isfunction(f) and not k.startswith("_")}
    return {k: f for k, f in functions.items() if "learning_rate" in inspect.signature(f).parameters}


# -- gradient clipping


class Clip(Spec):
    """What happens to gradients before the optimiser sees them."""

    def __call__(self, grads: Tree) -> Tree:
        raise NotImplementedError(f"{type(self).__name__} has no __call__(self, grads).")


class ClipByValue(Clip):
    """Cut every entry of the gradient to [-limit, limit]. Equals torch.nn.utils.clip_grad_value_.

    >>> import jax.numpy as jnp
    >>> ClipByValue(1.0)({"w": jnp.array([0.5, -3.0])})["w"]
    Array([ 0.5, -1. ], dtype=float32)
    """

    limit: Scalar

    def check(self) -> None:
        require(self, "limit", lambda v: v > 0, "above 0")

    def __call__(self, grads: Tree) -> Tree:
        return jax.tree.map(lambda g: jnp.clip(g, -self.limit, self.limit), grads)


class ClipByGlobalNorm(Clip):
    """Shorten the whole gradient to the length `limit` if it is longer; its direction stays.

    Equals torch.nn.utils.clip_grad_norm_ (whose 1e-6 is kept). Pascanu et al. 2013, arXiv:1211.5063.

    >>> import jax.numpy as jnp
    >>> clipped = ClipByGlobalNorm(1.0)({"w": jnp.array(3.0), "b": jnp.array(4.0)})
    >>> {name: round(float(g), 4) for name, g in clipped.items()}
    {'b': 0.8, 'w': 0.6}
    """

    limit: Scalar

    def check(self) -> None:
        require(self, "limit", lambda v: v > 0, "above 0")

    def __call__(self, grads: Tree) -> Tree:
        scale = jnp.minimum(1.0, self.limit / (global_norm(grads) + 1e-6))
        return jax.tree.map(lambda g: (g * scale).astype(g.dtype), grads)


def global_norm(tree: Tree) -> jax.Array:
    """The length of all arrays of a pytree taken as one vector."""
    squares = [jnp.sum(jnp.square(a.astype(jnp.float32))) for a in jax.tree.leaves(tree)]
    return jnp.sqrt(sum(squares, start=jnp.zeros((), jnp.float32)))


# -- checks


def require(spec: Spec, path: str, fits: Callable[[Any], bool], words: str) -> None:
    """Refuse a field that does not fit. Only Python numbers are looked at: traced or stacked ones pass."""
    value: Any = spec
    for step in path.split("."):
        value = value[int(step)] if isinstance(value, tuple) else getattr(value, step)
    if isinstance(value, (int, float)) and not fits(value):
        raise SpecError(f"{type(spec).__name__}.{path} must be {words}, got {value!r}.")


def _is(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value == number


def _isnt(value: Any, number: float) -> bool:
    return isinstance(value, (int, float)) and value != number

"""What a trace is made of: values, the steps between them, and the shares of the gradient that flow back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

JACOBIAN = 4096  # entries up to which a local derivative is computed as a matrix

# outputs have the shape of the inputs, and each element depends on that element alone
ELEMENTWISE = frozenset(
    "abs acos acosh add add_any asin asinh atan atan2 atanh cbrt ceil clamp convert_element_type copy copy_p cos cosh "
    "digamma div eq erf erf_inv erfc exp exp2 expm1 floor ge gt integer_pow is_finite le lgamma log log1p logistic lt "
    "max min mul ne neg not or pow reduce_precision rem round rsqrt select_n sign sin sinh sqrt square stop_gradient "
    "sub tan tanh".split()
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Value:
    """A number or an array of the computation, under a name that no other value of the trace has.

    kind: "input" for what came in, "constant" for what the program holds, "computed" for what a step made.
    """

    name: str
    array: Any
    kind: str = "computed"
    step: int = 0  # the number of the step that made it; 0: none did

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(np.shape(self.array))

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    @property
    def is_float(self) -> bool:
        return jnp.issubdtype(jnp.result_type(self.array), jnp.floating)

    @property
    def numbers(self) -> np.ndarray | None:
        """The numbers in it; None for a random key."""
        return numbers_in(self.array)

    @property
    def is_finite(self) -> bool:
        return not self.is_float or bool(np.isfinite(np.asarray(self.array, np.float64)).all())


def numbers_in(array: Any) -> np.ndarray | None:
    """As NumPy has them; None for a random key, which is none."""
    if jnp.issubdtype(jnp.result_type(array), jax.dtypes.prng_key):
        return None
    found = np.asarray(array)
    return found.astype(np.float32) if found.dtype == jnp.bfloat16 else found


@dataclass(frozen=True)
class Source:
    """The line of Python that asked for an operation."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: what it took, what it gave, and how the gradient went through it.

    `run(*arrays)` computes the outputs for other inputs. `incoming` is the gradient of each output, None where none
    came; `shares` are what it sends on to the inputs that lead to an argument.
    """

    number: int
    operation: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    run: Callable[..., tuple[Any, ...]] = field(repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    layer: str = ""
    source: Source | None = None
    incoming: tuple[Any, ...] = ()
    shares: tuple[Share, ...] = ()

    @property
    def output(self) -> Value:
        return self.outputs[0]

    @property
    def elementwise(self) -> bool:
        """Does each element of the output depend on the same element of the inputs alone?"""
        if self.operation not in ELEMENTWISE and not self.settings.get("elementwise"):
            return False
        return len(self.outputs) == 1 and all(_repeats_to(v.shape, self.output.shape) for v in self.inputs)


def _repeats_to(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Is an array of this shape, repeated along its axes of length 1, of the whole shape?"""
    return shape == () or (len(shape) == len(whole) and all(n in (1, m) for n, m in zip(shape, whole, strict=True)))


@dataclass(frozen=True, eq=False)
class Share:
    """What one step sends back to one of its inputs: the incoming gradient times the local derivative.

    product = incoming * local where the step is elementwise; else the local derivative is a matrix, [outputs, inputs],
    and product = incoming @ local. `local` is computed when it is asked for: None where the matrix would be too large,
    or where the step has several outputs with a gradient, whose parts are added in `product`.
    """

    step: Step = field(repr=False)
    position: int
    product: Any

    @property
    def to(self) -> Value:
        """The input that it goes to."""
        return self.step.inputs[self.position]

    @property
    def incoming(self) -> Any:
        """The gradient of the step's first output that has one."""
        return next(g for g in self.step.incoming if g is not None)

    @property
    def diagonal(self) -> bool:
        """Is the local derivative a number for each element?"""
        return self.step.elementwise and self.to.shape == self.step.output.shape

    @cached_property
    def local(self) -> np.ndarray | None:
        """The local derivative: [...] like the input where the step is elementwise, else [outputs, inputs]."""
        if sum(g is not None for g in self.step.incoming) > 1:
            return None
        arrays = [v.array for v in self.step.inputs]

        def alone(x: Any) -> Any:
            outs = self.step.run(*arrays[: self.position], x, *arrays[self.position + 1 :])
            return outs[self._reached]

        out, x = self.step.outputs[self._reached], jnp.asarray(self.to.array)
        if self.diagonal:
            return np.asarray(jax.vjp(alone, x)[1](jnp.ones(out.shape, jnp.result_type(out.array)))[0])
        if out.size * self.to.size > JACOBIAN:
            return None
        back = jax.vjp(alone, x)[1]
        unit = jnp.eye(out.size, dtype=jnp.result_type(out.array)).reshape(out.size, *out.shape)
        return np.asarray(jax.vmap(back)(unit)[0]).reshape(out.size, self.to.size)

    @property
    def _reached(self) -> int:
        return next(i for i, g in enumerate(self.step.incoming) if g is not None)

"""A population: many members of one structure that train together, an epoch a call.

    population = Population(task, rows, valid, slots=32)
    handle = population.put([Member(jax.tree.leaves(task), seed=0, epochs=20)])[0]
    seen = population.epoch()                                        # {handle: what the epoch left of it}
    population.carry(handle)                                         # a member's whole state, to keep or to move

It is `engine.epoch` mapped over members by `vmap`. Members sit in blocks of a fixed size, so that one program serves
all and nothing compiles when members come and go. A block is as large as a core's cache likes; blocks are dealt to
threads, since a small net keeps one core busy and no more (bench/tune.py). Where `vmap` does not pay, for convolutions
and long recurrences on a CPU, a block is one member. When too few are left to fill a block they go on one by one.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from derin.engine import epoch as engine
from derin.engine.epoch import Carry, Fold, Report, Rows, Task
from derin.engine.programs import program
from derin.engine.training import key_bits, key_of
from derin.errors import DoesNotFit
from derin.nn.module import Summary, summary

BLOCK = 16  # members that are vmapped together on a CPU: more do not fit its cache (bench/tune.py)
SMALL, LARGE = 4e6, 4e7  # multiply-adds of a step forward: below, vmap wins; above, it loses; between, it is measured
PROBE_STEPS = 8


class Member(NamedTuple):
    """What is trained. leaves: the numbers of its task; carry: where it goes on from, None for fresh weights."""

    leaves: Sequence[Any]
    seed: int
    epochs: int
    fold: int = 0
    carry: Carry | None = None


class Seen(NamedTuple):
    """What an epoch left of a member, plain numbers."""

    report: Report
    epoch: Any  # int: epochs done
    done: Any  # bool: early stopping has stopped it
    broken: Any  # bool: a loss or gradient was not finite

    def each(self) -> Iterator[Seen]:
        """Of arrays with a leading axis that of every member, as plain numbers."""
        report, *others = jax.tree.map(lambda a: np.asarray(a).tolist(), self)
        metrics = zip(*report.metrics, strict=True) if report.metrics else itertools.repeat(())
        reports = map(Report, report.loss, report.learning_rate, report.valid_loss, metrics, report.improved)
        return map(Seen, reports, *others)


class Form(NamedTuple):
    """How the numbers of a task travel to a device: float32 scalars packed in one array, the others by themselves."""

    tree: Any
    packed: tuple[bool, ...]  # for each leaf

    @classmethod
    def of(cls, task: Task) -> Form:
        leaves, tree = jax.tree.flatten(task)
        return cls(tree, tuple(a.ndim == 0 and a.dtype == np.float32 for a in map(_plain, leaves)))

    def task(self, numbers: Any, others: Any) -> Task:
        """numbers: [packed], others: a tuple of the other leaves, both a member's own."""
        scalars, rest = iter(numbers), iter(others)
        return jax.tree.unflatten(self.tree, [next(scalars if one else rest) for one in self.packed])


KEY, EPOCHS, FOLD, ALIVE, FRESH = slice(0, 2), 2, 3, 4, 5  # the columns of a block's `about`; _given says who lives


class Block:
    """Slots on one device: what the program of an epoch takes, arrays with a leading axis."""

    def __init__(self, form: Form, leaves: Sequence[Any], size: int, device: Any) -> None:
        self.size, self.device, self.packed = size, device, form.packed
        self.numbers = np.array([[*itertools.compress(leaves, form.packed)]] * size, np.float32)
        self.others = tuple(np.stack([_plain(v)] * size) for v, one in zip(leaves, form.packed, strict=True) if not one)
        self.about = np.zeros((size, 6), np.uint32)  # of each member its key, epochs, fold; does it live, is it new
        self.about[:, EPOCHS] = 1
        self.handles = [-1] * size
        self.carry: Any = None
        self.given: Any = None  # all but the carry, on the device; made anew when a member comes or goes

    def set(self, at: int, member: Member, handle: int) -> None:
        self.numbers[at] = [*itertools.compress(member.leaves, self.packed)]
        rest = (leaf for leaf, one in zip(member.leaves, self.packed, strict=True) if not one)
        for stack, leaf in zip(self.others, rest, strict=True):
            stack[at] = leaf
        self.about[at] = (*key_bits(member.seed), member.epochs, member.fold, False, member.carry is None)
        self.handles[at], self.given = handle, None

    @property
    def living(self) -> list[int]:
        """The slots that are taken."""
        return [at for at, handle in enumerate(self.handles) if handle >= 0]

    def member(self, at: int) -> Member:
        scalars, rest = iter(self.numbers[at]), iter(self.others)
        leaves = [next(scalars) if one else next(rest)[at].copy() for one in self.packed]
        _, seed, epochs, fold, *_ = self.about[at].tolist()
        return Member(leaves, seed, epochs, fold, self.carry_of(at))

    def carry_of(self, at: int) -> Carry:
        return self.copied(at, self.carry)

    def copied(self, at: int, part: Any) -> Any:
        """A member's share of the carry, or of a part of it."""
        return jax.tree.map(lambda a: np.array(np.asarray(a)[at]), part)  # an array of a CPU is not copied whole


class Population:
    """Members whose tasks have one structure; see the module's head.

    folds: a Fold of arrays with a leading axis, of which each member has one; then `valid` is None. order_seed: the
    order of the rows follows from it, or from each member's own seed if it is None. shared_order: members are always
    in the same epoch and see the same batches. block: members vmapped together; None: what a short measurement finds
    faster. With measure=False a member's bits do not hang on the machine's cores: a block is what the size of the net
    suggests, and its program keeps to one thread. threads: None for one a core, or a device.
    """

    def __init__(
        self,
        task: Task,
        rows: Rows,
        valid: Rows | None,
        slots: int,
        *,
        folds: Fold | None = None,
        order_seed: int | None = 0,
        shared_order: bool = False,
        block: int | None = None,
        threads: int | None = None,
        measure: bool = True,
    ) -> None:
        self.task = task.structure_only()
        self.leaves, self.form = jax.tree.leaves(self.task), Form.of(self.task)
        devices = jax.local_devices()
        count = threads or (cores() if devices[0].platform == "cpu" and len(devices) == 1 else len(devices))
        self.places = [devices[i % len(devices)] for i in range(count)]
        order_key = None if order_seed is None else key_bits(order_seed)
        self.data = {d: jax.device_put((order_key, rows, valid, folds), d) for d in devices[:count]}
        x = self.data[devices[0]][1].x
        self.like = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
        self.shared_order = shared_order and folds is None
        self.pool = ThreadPoolExecutor(count) if count > 1 else None
        self.measure = measure
        self.block, self.alone = self._measured(slots) if block is None else (min(block, slots), block)
        self.slots = -(-slots // self.block) * self.block
        self.blocks = [self._new(self.block, i) for i in range(self.slots // self.block)]
        self.programs: dict[Any, Any] = {}  # by what they do, size and device: quicker to find than by their arguments
        self.handles = 0
        self.places_of: dict[int, tuple[Block, int]] = {}  # by handle
        self.used = self.idle = 0  # slot-epochs

    def _new(self, size: int, i: int) -> Block:
        return Block(self.form, self.leaves, size, self.places[i % len(self.places)])

    # -- members come and go
    @property
    def free(self) -> int:
        return sum(b.handles.count(-1) for b in self.blocks)

    def put(self, members: Sequence[Member]) -> list[int]:
        """Give members free slots; a handle for each."""
        fresh: dict[int, dict[int, Member]] = {}
        handles = []
        free = ((i, at) for i, b in enumerate(self.blocks) for at, handle in enumerate(b.handles) if handle < 0)
        for (i, at), member in zip([*free], members, strict=False):
            self._place(self.blocks[i], at, member, self.handles)
            fresh.setdefault(i, {})[at] = member
            handles.append(self.handles)
            self.handles += 1
        for i, some in fresh.items():
            self._begin(self.blocks[i], some)
        return handles

    def _place(self, block: Block, at: int, member: Member, handle: int) -> None:
        block.set(at, member, handle)
        self.places_of[handle] = (block, at)

    def _begin(self, block: Block, members: dict[int, Member]) -> None:
        """Fresh weights, or the given ones, in the slots of these members; the others stay as they are."""
        given = {at: m.carry for at, m in members.items() if m.carry is not None}
        if block.carry is None:  # zeros, or a program for the first time and one for all others would compile
            shapes = _shapes(self.form, self.like, block)
            block.carry = jax.device_put(jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes), block.device)
        if len(given) < len(members):
            args = (*self._given(block), block.carry)
            key = ("start", block.size, block.device)
            if key not in self.programs:
                static = (self.form, self.like, block.device)
                self.programs[key] = program(_started, *args, static=static, donate=(3,), hasty=True)
            block.carry = self.programs[key](*args)
            block.about[:, FRESH] = False
        if given:
            stacks = jax.tree.map(np.array, block.carry)
            for at, carry in given.items():
                jax.tree.map(lambda stack, a, at=at: stack.__setitem__(at, a), stacks, carry)
            block.carry = jax.device_put(stacks, block.device)

    def clear(self, *handles: int) -> None:
        """These members are done with."""
        for handle in handles:
            block, at = self.places_of.pop(handle)
            block.handles[at], block.given = -1, None

    def carries(self) -> dict[int, Carry]:
        """The whole state of each member, copied to the host."""
        return {handle: block.carry_of(at) for handle, (block, at) in self.places_of.items()}

    def carry(self, handle: int) -> Carry:
        """The whole state of one member, copied to the host."""
        block, at = self.places_of[handle]
        return block.carry_of(at)

    def copier(self, handle: int, part: Callable[[Carry], Any]) -> Callable[[], Any]:
        """What copies a part of it, until members are put or trained again: also when this one is cleared meanwhile."""
        block, at = self.places_of[handle]
        return lambda: block.copied(at, part(block.carry))

    def layout(self) -> list[list[int]]:
        """The handle in each slot of each block, -1 for none: where members sit decides the last bits of some."""
        return [list(b.handles) for b in self.blocks]

    def restore(self, layout: list[list[int]], members: dict[int, Member]) -> None:
        """Put members, with their carries, back where they sat."""
        self.blocks = [self._new(len(handles), i) for i, handles in enumerate(layout)]
        self.handles = 1 + max((h for handles in layout for h in handles), default=-1)
        self.places_of = {}
        for block, handles in zip(self.blocks, layout, strict=True):
            mine = {at: members[h] for at, h in enumerate(handles) if h >= 0}
            for at, member in mine.items():
                self._place(block, at, member, handles[at])
            if mine:
                self._begin(block, mine)

    def thin_out(self) -> None:
        """No more members come: those of blocks that are hardly used go on one by one."""
        for block in list(self.blocks):
            if block.size > 1 and len(block.living) < self.alone:
                for at in block.living:
                    single, member = self._new(1, len(self.blocks)), block.member(at)
                    self._place(single, 0, member, block.handles[at])
                    self._begin(single, {0: member})
                    self.blocks.append(single)
                self.blocks.remove(block)

    # -- an epoch
    def epoch(self) -> dict[int, Seen]:
        """Train every member for an epoch."""
        blocks = [b for b in self.blocks if b.living]
        calls = [self._call(b) for b in blocks]  # compiled here: threads would each compile
        if self.pool is None or len(calls) == 1:
            found = [call() for call in calls]
        else:
            found = list(self.pool.map(lambda call: call(), calls))
        seen: dict[int, Seen] = {}
        for block, some in zip(blocks, found, strict=True):
            each = zip(block.handles, some.each(), strict=True)
            seen |= {handle: one for handle, one in each if handle >= 0}
            alive = len(block.living)
            self.used, self.idle = self.used + alive, self.idle + block.size - alive
        return seen

    def _call(self, block: Block) -> Callable[[], Seen]:
        args = self._arguments(block)
        run = self._program(block, args)

        def call() -> Seen:
            block.carry, seen = run(*args)
            return jax.block_until_ready(seen)

        return call

    def _arguments(self, block: Block) -> Any:
        return (block.carry, *self._given(block), *self.data[block.device])

    def _given(self, block: Block) -> Any:
        if block.given is None:
            block.about[:, ALIVE] = [handle >= 0 for handle in block.handles]
            mine = (block.numbers, block.others, block.about)  # copied: a device may read them later, or share them
            block.given = jax.device_put(jax.tree.map(np.copy, mine), block.device)
        return block.given

    def _program(self, block: Block, args: Any) -> Any:
        key = ("epoch", block.size, block.device)
        if key not in self.programs:
            static = (self.form, self.shared_order, block.device)
            alone = self.places[0].platform == "cpu" and (len(self.places) > 1 or not self.measure)
            self.programs[key] = program(_epochs, *args, static=static, donate=(0,), one_thread=alone)
        return self.programs[key]

    def bytes(self) -> int:
        """Memory while it trains: the states of all slots, the data, and the program's own in each thread."""
        block = self.blocks[0]
        shapes = _shapes(self.form, self.like, block)  # nothing is put anywhere yet
        seen = _memory(self._program(block, (shapes, *self._given(block), *self.data[block.device])))
        data = sum(a.nbytes for some in self.data.values() for a in jax.tree.leaves(some))
        own = seen.temp_size_in_bytes + seen.output_size_in_bytes - seen.alias_size_in_bytes
        return data + self.states_bytes() + own * min(len(self.places), len(self.blocks))

    def states_bytes(self) -> int:
        """Memory of the states of all slots, known before anything is compiled."""
        shapes = jax.tree.leaves(_shapes(self.form, self.like, self.blocks[0]))
        return sum(math.prod(a.shape) * a.dtype.itemsize for a in shapes) * len(self.blocks)

    # -- how large a block
    def _measured(self, slots: int) -> tuple[int, int]:
        """The size of a block, and below how many members in it single ones are faster."""
        if self.places[0].platform != "cpu":
            return -(-slots // len(self.data)), 0  # a block a device
        each = -(-slots // len(self.places)) if self.measure else slots  # a worker's do not hang on its threads
        several = min(BLOCK, each)
        costs = step_costs(self.task, self.data[self.places[0]][1])
        work = costs.total.multiply_adds
        if several == 1 or work > LARGE:
            return 1, 0
        if work < SMALL or (not self.measure and work < (SMALL * LARGE) ** 0.5):
            return several, several // 2
        if not self.measure:
            return 1, 0
        kind = (several, *sorted({row.kind for row in costs.rows}))
        for other, found in _known_blocks.get(kind, []):  # the larger the net, the less vmap gains
            if work >= other if found[0] == 1 else work <= other:
                return found
        ratio = self._seconds(1) / self._seconds(several)
        found = (several, max(2, round(1 / ratio))) if several * ratio > 1 else (1, 0)
        _known_blocks.setdefault(kind, []).append((work, found))
        return found

    def _seconds(self, size: int) -> float:
        """Of a few steps of so many members, with all threads at work."""
        block = self._new(size, 0)
        like = jax.eval_shape(lambda key: engine.start(self.task, key_of(key), self.like), key_bits(0))
        carry = jax.tree.map(lambda a: np.full((size, *a.shape), 0.01 if a.dtype.kind == "f" else 0, a.dtype), like)
        carry = carry._replace(broken_at=np.full(size, -1, np.int32))
        args = (*self._given(block), jax.device_put(carry, block.device), self.data[block.device][1])
        run = program(_probe, *args, static=(self.form, block.device))
        best = float("inf")
        for _ in range(3):
            begin = time.perf_counter()
            if self.pool is None:
                jax.block_until_ready(run(*args))
            else:
                list(self.pool.map(lambda _: jax.block_until_ready(run(*args)), self.places))
            best = min(best, time.perf_counter() - begin)
        return best


# -- the programs


_known_shapes: dict[Any, Carry] = {}
_known_costs: dict[Any, Summary] = {}
_known_blocks: dict[Any, list[tuple[float, tuple[int, int]]]] = {}  # by kinds of layers: work, and what was measured


def step_costs(task: Task, rows: Rows) -> Summary:
    """The layers of a step of one member, forward."""
    size, (n, *shape) = task.experiment.batch_size, rows.x.shape
    x = jax.ShapeDtypeStruct((n if size == "full" else min(size, n), *shape), rows.x.dtype)
    key = (jax.tree.structure(task), x)
    if key not in _known_costs:
        seen = x if task.inputs is None else task.inputs.look(x)[1][""]
        _known_costs[key] = summary(task.experiment.net, seen)
    return _known_costs[key]


def epoch_work(task: Task, rows: Rows) -> float:
    """What one member does in an epoch: a step's multiply-adds forward, or weights to change where those are more."""
    size, n, step = task.experiment.batch_size, len(rows.x), step_costs(task, rows).total
    return max(step.multiply_adds, step.parameters) * (1 if size == "full" else n / min(size, n))


@functools.lru_cache(maxsize=16)  # few: each holds a program
def _memory(program: Any) -> Any:
    return program.memory_analysis()


def _shapes(form: Form, like: Any, block: Block) -> Carry:
    """The shapes of the states of a block."""
    key = (form, like, block.size)
    if key not in _known_shapes:

        def member(numbers: Any, others: Any, about: Any) -> Carry:
            return engine.start(form.task(numbers, others), key_of(about[KEY]), like)

        _known_shapes[key] = jax.eval_shape(jax.vmap(member), block.numbers, block.others, block.about)
    return _known_shapes[key]


def _started(form: Form, like: Any, device: Any, numbers: Any, others: Any, about: Any, carry: Carry) -> Carry:
    def member(numbers: Any, others: Any, about: Any) -> Carry:
        return engine.start(form.task(numbers, others), key_of(about[KEY]), like)

    new, fresh = jax.vmap(member)(numbers, others, about), about[:, FRESH] > 0
    return jax.tree.map(lambda a, b: jnp.where(fresh.reshape(-1, *[1] * (a.ndim - 1)), a, b), new, carry)


def _epochs(
    form: Form,
    shared_order: bool,
    device: Any,
    carries: Any,
    numbers: Any,
    others: Any,
    about: Any,
    order_key: Any,
    rows: Rows,
    valid: Rows | None,
    folds: Fold | None,
) -> tuple[Any, Seen]:
    order, own_order = None, None if order_key is None else key_of(order_key)
    if shared_order:  # that of the epoch in which all who are alive are
        at = jnp.max(jnp.where(about[:, ALIVE] > 0, carries.epoch, 0))
        task = form.task(numbers[0], tuple(a[0] for a in others))
        order = engine.epoch_order(task, at, rows.x.shape[0], key_of(order_key))

    def member(carry: Carry, numbers: Any, others: Any, about: Any) -> Any:
        alive, fold = about[ALIVE] > 0, about[FOLD].astype(jnp.int32)
        mine = None if folds is None else jax.tree.map(lambda a: a[fold], folds)
        stopped, total, key = carry.done, about[EPOCHS].astype(jnp.int32), key_of(about[KEY])
        carry = carry._replace(done=stopped | ~alive)
        task = form.task(numbers, others)
        carry, report = engine.epoch(task, carry, rows, valid, key, total, order, mine, own_order)
        carry = carry._replace(done=jnp.where(alive, carry.done, stopped))
        return carry, Seen(report, carry.epoch, carry.done, carry.broken_at >= 0)

    return _mapped(member)(carries, numbers, others, about)


def _probe(form: Form, device: Any, numbers: Any, others: Any, about: Any, carries: Any, rows: Rows) -> Any:
    """A few steps of a few members: the losses."""

    def member(carry: Carry, numbers: Any, others: Any, about: Any) -> Any:
        task = form.task(numbers, others)
        n, size = rows.x.shape[0], task.experiment.batch_size
        some = jnp.arange(PROBE_STEPS * (n if size == "full" else min(size, n))).reshape(PROBE_STEPS, -1) % n
        return engine.steps(task, carry, rows, some, None, key_of(about[KEY]), jnp.int32(1), (PROBE_STEPS, n))[1]

    return _mapped(member)(carries, numbers, others, about)


def _mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function over the leading axis. A single member is not batched: a convolution stays a convolution."""

    def mapped(*given: Any) -> Any:
        if len(jax.tree.leaves(given)[0]) > 1:
            return jax.vmap(function)(*given)
        return jax.tree.map(lambda a: a[None], function(*jax.tree.map(lambda a: a[0], given)))

    return mapped


def _plain(leaf: Any) -> np.ndarray:
    return np.asarray(leaf, np.float32) if isinstance(leaf, (bool, int, float)) else np.asarray(leaf)


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def fitting(make: Callable[[int], Population], slots: int, budget: Callable[[int], int]) -> Population:
    """The population with the most slots, up to `slots`, that trains within a budget.

    budget: the bytes there are for one that needs so many. Raises DoesNotFit if one member alone does not fit.
    """
    while True:
        population = make(slots)
        needed = population.states_bytes()
        if needed <= budget(needed):
            needed = population.bytes()
        room = budget(needed)
        if needed <= room:
            return population
        del population  # and what it has put on devices, before the next one
        if slots == 1:
            raise DoesNotFit(
                f"one member alone needs {needed / 2**20:,.0f} MB of memory, and a search takes {room / 2**20:,.0f} "
                "MB here: a smaller net or batch."
            )
        slots = max(1, min(slots - 1, int(slots * room / needed)))

"""Compiled programs, kept by structure and shape: in memory here, on disk by JAX's persistent cache."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

if "JAX_CPU_ENABLE_ASYNC_DISPATCH" not in os.environ:
    # Nothing here computes beside the CPU's own program, and handing a result over from XLA's thread costs four
    # times what the prediction of one row does (12 us against 50, bench/predict.py). To be set before first use.
    jax.config.update("jax_cpu_enable_async_dispatch", False)

_programs: dict[Any, Callable] = {}  # the one used last at the end
KEPT = 64  # a program is hundreds of mapped pieces of memory, and Linux lets a process have 65,530
seconds = {"tracing": 0.0, "compiling": 0.0}  # spent since import: what a user waits for before the first step


def program(
    function: Callable,
    *args: Any,
    static: tuple = (),
    donate: tuple[int, ...] = (),
    one_thread: bool = False,
    hasty: bool = False,
) -> Callable:
    """The compiled program of `function(*static, *args)`, for arguments like these.

    The same function, static values, tree structures, shapes and dtypes give the same program back, as long as it is
    among those that were used last. one_thread: on a CPU it keeps to the thread that calls it, so that several can run
    side by side. hasty: it runs seldom, so that it is compiled with fewer optimisations, in half the time for
    convolutions, a quarter for the draw of first weights.
    """
    leaves, tree = jax.tree.flatten(args)
    key = (function, static, tree, tuple(map(_kind, leaves)), donate, one_thread, hasty)
    found = _programs.pop(key, None)
    if found is None:
        use_disk_cache()
        begin = time.perf_counter()

        def whole(*args: Any) -> Any:
            return function(*static, *args)

        whole.__name__ = function.__name__.lstrip("_")  # what profiles and the compiler's log call it
        jitted = jax.jit(whole, donate_argnums=donate)
        lowered = jitted.lower(*args)
        middle = time.perf_counter()
        found = _compiled(lowered, one_thread, hasty)
        seconds["tracing"] += middle - begin
        seconds["compiling"] += time.perf_counter() - middle
    _programs[key] = found
    for oldest in list(_programs)[:-KEPT]:
        _programs.pop(oldest, None)
    return found


# XLA gives YNNPACK convolutions that Eigen does in half the time where the map changes from step to step; what it gives
# YNNPACK of products and sums stays as it is (bench/conv.py)
_YNNPACK = "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"
_options: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": _YNNPACK}


def _compiled(lowered: Any, one_thread: bool, hasty: bool) -> Callable:
    if jax.default_backend() != "cpu":
        return lowered.compile()
    more: dict[str, Any] = {"xla_cpu_multi_thread_eigen": False} if one_thread else {}
    if hasty:
        more["xla_backend_optimization_level"] = 1
    try:
        return lowered.compile(compiler_options=_options | more)
    except jax.errors.JaxRuntimeError as error:
        if not _options or "No such compile option" not in str(error):
            raise
        _options.clear()  # a jaxlib that has another name for it
        return _compiled(lowered, one_thread, hasty)


def _kind(leaf: Any) -> Any:
    if isinstance(leaf, (bool, int, float)):
        return type(leaf)  # weakly typed: it does not promote bfloat16 to float32
    return (leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False))


def use_disk_cache() -> None:
    """Turn JAX's persistent compilation cache on, unless the user has set one, or DERIN_CACHE is "off"."""
    wanted = os.environ.get("DERIN_CACHE", "")
    already = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]  # JAX adds its options as it starts
    if wanted == "off" or already is not None:
        return
    jax.config.update("jax_compilation_cache_dir", wanted or str(_cache_folder() / "derin" / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _cache_folder() -> Path:
    """Where the operating system wants caches."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))

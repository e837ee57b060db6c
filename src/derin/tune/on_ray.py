"""Workers as tasks of a Ray cluster: the data go into its object store once, a unit is a task on one core.

Ray notices a worker or a machine that dies and starts the task again; for that a unit is a function of itself alone.
"""

from __future__ import annotations

import uuid
from typing import Any

from derin.errors import DerinError, RunError, SpecError
from derin.tune.units import Done, Job, Trainer, Unit, check_importable, worker_environment

RETRIES = 2  # after the first time a unit's worker died

_trainers: dict[str, Trainer] = {}  # in a Ray worker: that of the search it works for


class Cluster:
    """The cores of a Ray cluster; see `spread.Crew`. address: as `ray.init` takes it; "local" starts one here."""

    def __init__(self, address: str) -> None:
        if not isinstance(address, str) or not address:
            raise SpecError(f'ray is the address of a cluster, "auto", "local" or "ray://host:10001"; got {address!r}.')
        try:
            import ray
        except ImportError:
            raise RunError("searches on a cluster need Ray: pip install 'derin[ray]'.") from None
        self.ray, self.address = ray, address
        self.mine = False  # whether the connection was made here
        self.units: dict[Any, Unit] = {}

    def start(self, job: Job) -> None:
        check_importable(job.experiment)
        ray = self.ray
        if not ray.is_initialized():
            try:
                ray.init(address=self.address, include_dashboard=False if self.address == "local" else None,
                         log_to_driver=False, logging_level="ERROR")  # fmt: skip
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise RunError(f"there is no Ray cluster at {self.address!r}: {error}") from None
            self.mine = True
        self.name, self.job = uuid.uuid4().hex, ray.put(job)
        self.cores = max(1, int(ray.cluster_resources().get("CPU", 1)))
        environment = {"env_vars": worker_environment()}
        self.task = ray.remote(num_cpus=1, max_retries=RETRIES, runtime_env=environment)(_do)

    @property
    def idle(self) -> int:
        return max(0, self.cores - len(self.units))

    @property
    def busy(self) -> int:
        return len(self.units)

    def give(self, unit: Unit) -> None:
        self.units[self.task.remote(self.name, self.job, unit)] = unit

    def wait(self, seconds: float) -> list[Done]:
        ready, _ = self.ray.wait([*self.units], num_returns=1, timeout=seconds)
        found = []
        for reference in ready:
            unit = self.units.pop(reference)
            try:
                what = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                said = str(error).strip().splitlines()[-1:]
                raise RunError(
                    f"Ray could not do trials {unit.name[0]} to {unit.name[-1]}, {RETRIES + 1} times: "
                    f"{type(error).__name__} {' '.join(said)}"
                ) from None
            if isinstance(what, DerinError):
                raise what
            found.append(what)
        return found

    def close(self) -> None:
        for reference in self.units:
            self.ray.cancel(reference, force=True)
        self.units.clear()
        if self.mine:
            self.ray.shutdown()
            self.mine = False


def _do(name: str, job: Job, unit: Unit) -> Done | DerinError:
    """In a Ray worker: a unit of the search of that name."""
    try:
        if name not in _trainers:
            _trainers.clear()
            _trainers[name] = Trainer(job)
        return _trainers[name].do(unit)
    except DerinError as error:
        return error

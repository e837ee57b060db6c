"""Study: a search and what came of it; on disk it is a folder like a run.

    study = derin.tune(experiment, data, trials=200, pruner="asha", out="studies/first")
    study.table                          # a row a trial
    study.best.experiment                # the values that were best, in an experiment
    run = study.refit()                  # trained again, as a run
    derin.tune.load("studies/first").resume()

studies/NAME/study.json      experiment, settings and data      studies/NAME/trials.jsonl   a line a trial that ended
studies/NAME/checkpoints/    the search as it stands            studies/NAME/.lock          held by the one who writes
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import shutil
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import jax

from derin import spec
from derin.engine import checkpoint
from derin.engine.checkpoint import folder_that_appears_whole, remove_empty, replace_file, write_synced
from derin.engine.experiment import Experiment
from derin.engine.folder import describe_data, refuse_existing
from derin.engine.lock import Lock
from derin.engine.run import Run
from derin.engine.training import as_dataset, counts_of, interrupts
from derin.errors import RunError, SpecError
from derin.optim import Schedule
from derin.tune.ensemble import best_weights, ensemble_of
from derin.tune.live import Live
from derin.tune.look import html, seen, write_page
from derin.tune.pruners import Arrived, PopulationBased, Pruner, pruner_of, rank
from derin.tune.replay import replayed, schedule_of
from derin.tune.samplers import GivenTrials, Grid, Optuna, Random, Sampler, Told, sampler_of
from derin.tune.search import Search, Settings
from derin.tune.space import Space
from derin.tune.trial import ENDED, Trial, tie_breaker

if TYPE_CHECKING:
    import polars

SAVE_EVERY = 2.0  # seconds between checkpoints; when they fall changes no bit of the result
FORMAT = 2


def tune(
    experiment: Experiment,
    data: Any,
    *,
    trials: int | None = None,
    sampler: str | Sampler = "random",
    pruner: str | Pruner | None = None,
    folds: int | None = None,
    seeds: int = 1,
    time: float | None = None,
    metric: str | None = None,
    slots: int | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    workers: int | None = None,
    ray: str | None = None,
) -> Study:
    """Search the distributions of an experiment: its trials train together, as one program a structure.

    data: a Dataset or (X, y); trials are judged on its validation rows, or with `folds` on the rows of training and
    validation in turn; its test part is never seen. trials: how many (64 if no `time` is given); time: seconds after
    which none goes on, and in which structures take turns. sampler: "random", "grid", "sobol", "coarse", "tpe", "gp" or
    a Sampler. pruner: None, "asha", "halving", "hyperband", "pbt" or a Pruner. seeds: trainings a trial, from as many
    first weights; they share the order of the rows. metric: what is judged, by default the experiment's first metric or
    else the validation loss; where the loss itself is searched, the first of the usual metrics. slots: how many train
    at once; None is chosen by cores, by memory and by how short an epoch is. out: the study's folder.
    workers: so many processes train, instead of this one; ray: a cluster does, by its address, or "local". Then
    trials come in units of `slots` that go from rung to rung, and the table, but for the seconds, is the same whoever
    and how many trained (docs/scale.md). Concepts S4.01-S4.08.

    A trial's scores are those of `trial.experiment.fit(data)` but for rounding.
    Raises SpecError, DataError, ModelError, RunError.

    >>> import derin
    >>> net = derin.nn.Sequential(derin.nn.Linear(16), derin.nn.ReLU(), derin.nn.Linear(3))
    >>> space = derin.Experiment(net, optimizer=derin.optim.Adam(derin.log(1e-3, 1e-1)), epochs=10)
    >>> study = derin.tune(space, derin.load_data("iris"), trials=4, progress=False)
    >>> len(study.table), study.best.score < 0.3
    (4, True)
    """
    settings = _settings(
        trials=64 if trials is None and time is None else trials,
        sampler=sampler_of(sampler), pruner=pruner_of(pruner), folds=folds, seeds=seeds, metric=metric, slots=slots,
        time=time, seed=seed, units=workers is not None or ray is not None,
    )  # fmt: skip
    space = Space.of(experiment)
    _check_searchable(space)
    _check_exploring(space, settings)
    settings = _each_once(space, settings)
    _check_rule(experiment, settings)
    return _begin(_search(experiment, space, as_dataset(data), settings, workers, ray), out, progress)


def cross_validate(
    experiment: Experiment,
    data: Any,
    *,
    folds: int = 10,
    seeds: int = 1,
    metric: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
) -> Study:
    """Train an experiment on each fold of the training and validation rows, all folds as one program. S3.09.

    Classes are stratified; data loaded with `group` or `time` keep groups together, or the order of time. The study
    has one trial, whose `members` are the scores fold by fold. Raises DataError, SpecError, ModelError.

    >>> import derin
    >>> study = derin.cross_validate(derin.Experiment(derin.nn.Linear(3), epochs=200), derin.load_data("iris"), folds=5,
    ...                              progress=False)
    >>> len(study.members), study.best.score < 0.6
    (5, True)
    """
    spec.require_fixed(experiment, "cross_validate")
    settings = _settings(
        trials=1, sampler=Random(), folds=folds, seeds=seeds, metric=metric, slots=max(1, folds * seeds)
    )
    return _begin(Search(experiment, None, as_dataset(data), settings), out, progress)


def _settings(**given: Any) -> Settings:
    """What a person gave as options: a message does not name the class."""
    try:
        return Settings(**given)
    except SpecError as error:
        raise SpecError(str(error).removeprefix("Settings.")) from None


def load(path: str | Path) -> Study:
    """The study in a folder. Raises RunError for what is missing or damaged."""
    if not isinstance(path, (str, Path)):
        raise RunError(f"a study is loaded from its folder's path, got {path!r}.")
    experiment, settings, about, state, folder = _read(Path(path))
    arrays, _ = checkpoint.load(folder)
    return Study(experiment, settings, about, state, best_weights(arrays), path=Path(path))


def _search(
    experiment: Experiment, space: Space | None, data: Any, settings: Settings, workers: int | None, ray: str | None
) -> Search:
    """One that trains its trials itself, or has others do it."""
    if not settings.units:
        return Search(experiment, space, data, settings)
    from derin.tune.spread import Spread, crew_of

    return Spread(experiment, space, data, settings, crew_of(workers, ray))


def _begin(search: Search, out: str | Path | None, progress: bool) -> Study:
    data, path = search.arena.data, None if out is None else Path(out)
    about = describe_data(data, counts_of(data))
    made: list[Path] = []
    if path is not None:
        refuse_existing(path)
        made = checkpoint.missing_parents(path)
        texts = {
            "experiment": spec.to_dict(search.experiment),
            "settings": spec.to_dict(search.settings),
            "data": about,
        }
        with folder_that_appears_whole(path) as fresh:
            whole = {"format": FORMAT} | texts
            write_synced(
                fresh / "study.json", json.dumps(spec.strict_json(whole), indent=1, ensure_ascii=False).encode()
            )
            write_synced(fresh / "trials.jsonl", b"")
            (fresh / "checkpoints").mkdir()
    try:
        with Lock(path, "study") if path else nullcontext():
            _run(search, path, progress)
    except BaseException:
        if path is not None and not any(t.epochs for t in search.trials):  # there is nothing to resume
            shutil.rmtree(path, ignore_errors=True)
            remove_empty(made)
        raise
    return Study(search.experiment, search.settings, about, search.state(), search.best, data, path)


def _run(search: Search, path: Path | None, progress: bool) -> None:
    """Search to the end, saving as it goes."""
    live = Live(progress, search)
    saved, written = time.monotonic(), search.ended

    def after(_: Search) -> None:
        nonlocal saved, written
        live.epoch()
        if path is None:
            return
        if search.ended > written:
            with open(path / "trials.jsonl", "a", encoding="utf-8", newline="\n") as file:
                file.write("".join(map(_line, search.ended_since(written))))
            written = search.ended
        if search.stopped or time.monotonic() - saved > SAVE_EVERY:
            _save(search, path)
            saved = time.monotonic()

    with interrupts("finishing the epoch" if progress else "") as stop:
        if path is not None and checkpoint.newest(path / "checkpoints") is None:
            _save(search, path)
        search.run(after, stop)
    live.end()


def _save(search: Search, path: Path) -> None:
    ticks = search.ended + sum(t.epochs for t in search.trials)
    arrays = search.arrays()
    about = {"state": spec.strict_json(search.state()), "names": list(arrays), "study": _sha256(path / "study.json")}
    checkpoint.save(path / "checkpoints", ticks, arrays, about)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _line(trial: Trial) -> str:
    """What a trial came to; how long it took is not in it, so that two searches alike write the same bytes."""
    found = trial.to_dict()
    del found["seconds"]
    return json.dumps(spec.strict_json(found), ensure_ascii=False) + "\n"


def _read(path: Path) -> tuple[Any, Any, Any, Any, Any]:
    """Experiment, settings, data, state and newest checkpoint of a study's folder."""
    file = path / "study.json"
    if not file.is_file():
        raise RunError(
            f"there is no study at {path}." if not path.is_dir() else f"{path} is not a study: it has no study.json."
        )
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        if about["format"] != FORMAT:
            what = "upgrade derin" if about["format"] > FORMAT else "search again"
            raise RunError(f"{file} has format {about['format']}; this derin reads format {FORMAT}: {what}.")
        experiment, settings = spec.from_dict(about["experiment"]), spec.from_dict(about["settings"])
        data = about["data"] | {"schema": spec.from_dict(about["data"]["schema"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file} is damaged: {error}.") from None
    newest = checkpoint.newest(path / "checkpoints")
    if newest is None:
        raise RunError(f"the study in {path} ended before its first checkpoint: remove it and start again.")
    manifest = checkpoint.read_manifest(newest)
    if manifest["study"] != _sha256(file):
        raise RunError(
            f"{file} was changed after the search began: its trials are of another space. Start a new study."
        )
    return experiment, settings, data, spec.loose_json(manifest["state"]), newest


class Study:
    """What a search found: `table`, `best`, `refit`, `resume`, `ensemble`, `importance`, `compare`, `page`.

    `state` is "finished", "interrupted" or "out of time"; `path` is the study's folder, or None; `weights` are the
    Weights, params and state, of each member of the best trials, by the trial's number.
    """

    def __init__(
        self, experiment: Experiment, settings: Settings, about: Any, state: Any, weights: Any, data: Any = None,
        path: Path | None = None,
    ) -> None:  # fmt: skip
        self.experiment, self.settings, self.about_data = experiment, settings, about
        self.data, self.path, self.weights, self._state = data, path, weights, state
        if isinstance(about["schema"], dict):
            self.about_data = about | {"schema": spec.from_dict(about["schema"])}
        self.state = state["stopped"] or "not finished"
        self.space = Space.of(experiment) if spec.distributions(experiment) else None
        self.trials = [Trial(**t) for t in state["trials"]]
        for trial in self.trials:
            trial.make = functools.partial(_same, experiment) if self.space is None else self.space.fixed
        self.metric, self.greater_is_better = state["metric"], state["greater"]

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{sum(t.state == s for t in self.trials)} {s}" for s in ENDED if any(t.state == s for t in self.trials)
        )
        best = f"; best {self.metric} {self.best.score:.4g}, trial {self.best.number}" if self.ranked() else ""
        return f"Study({len(self.trials)} trials: {counts or 'none ended'}{best})"

    # -- what came of it
    @property
    def table(self) -> polars.DataFrame:
        """A row a trial: its values by path, the metric, its deviation, epochs, seconds until it ended, state.

        Where epochs are searched, those that were trained stand under "trained".
        """
        import polars

        paths = [*self.space.paths] if self.space else []
        epochs = "trained" if "epochs" in paths else "epochs"
        rows = [
            {"trial": t.number}
            | (self.space.shown(t.values) if self.space else {})
            | {self.metric: t.score, "deviation": t.deviation(self.metric), epochs: t.epochs, "seconds": t.seconds}
            | {"state": t.state}
            for t in self.trials
        ]
        columns = ["trial", *paths, self.metric, "deviation", epochs, "seconds", "state"]
        if not rows:
            return polars.DataFrame(schema=columns)
        return polars.DataFrame(rows, infer_schema_length=None).select(columns)

    @property
    def members(self) -> list[dict[str, float]]:
        """The best trial fold by fold and seed by seed: every loss and metric by name."""
        folds, seeds = self.settings.folds or 1, self.settings.seeds
        places = [(f, s) for f in range(folds) for s in range(seeds)]
        return [
            {"fold": f, "seed": self.experiment.seed + s} | m
            for (f, s), m in zip(places, self.best.members, strict=True)
        ]

    def ranked(self) -> list[Trial]:
        """Trials that were trained to their end, the best first; where there are none, those that time ended.

        Of many trials several have the best accuracy: that of the smallest validation loss is the best.
        """
        done = [t for t in self.trials if t.state == "finished" and not math.isnan(t.score)]
        done = done or [t for t in self.trials if t.state == "stopped" and not math.isnan(t.score)]
        sign = -1 if self.greater_is_better else 1
        return sorted(done, key=lambda t: rank(Arrived(t.number, sign * t.score, tie_breaker(t, self.space))))

    @property
    def best(self) -> Trial:
        """The trial with the best metric of those that were not stopped. Raises RunError if there is none."""
        ranked = self.ranked()
        if not ranked:
            diverged = sum(t.state == "diverged" for t in self.trials)
            raise RunError(
                f"no trial of {len(self.trials)} came to its end, {diverged} diverged"
                + (": try smaller learning rates, or clip=ClipByGlobalNorm(1.0)." if diverged else ".")
                + next((f" Trial {t.number} was refused: {t.why}" for t in self.trials if t.state == "refused"), "")
            )
        return ranked[0]

    def importance(self) -> dict[str, float]:
        """The share of each path in how the metric varies over the trials, largest first.   S4.01"""
        from derin.tune.importance import importance

        if self.space is None:
            raise SpecError("a cross-validation has one trial: there is nothing whose importance could be told.")
        return importance(self.space, self.told())

    def told(self) -> list[Told]:
        """The trials as samplers see them, without those that time ended before their first epoch or that were refused:
        smaller scores are better, and one that diverged is worst.
        """
        sign = -1 if self.greater_is_better else 1
        return [
            Told(t.number, t.values, math.inf if math.isnan(t.score) else sign * t.score)
            for t in self.trials
            if t.state in ENDED and (t.curve or t.state == "diverged")
        ]

    @property
    def seconds(self) -> float:
        """How long the search has taken, over all its sittings."""
        return float(self._state["seconds"])

    # -- to look at
    def pictures(self, folder: str | Path, format: Literal["svg", "png"] = "svg") -> list[Path]:
        """Write its pictures: best so far, each hyperparameter, parallel coordinates, curves, rungs, importance."""
        from derin.tune import pictures

        return pictures.save(pictures.pictures(seen(self)), folder, format)

    def page(self, path: str | Path, lang: str = "en") -> Path:
        """Write all pictures and the best trials as one HTML page that needs nothing else. lang: "en" or "tr"."""
        return write_page(self, Path(path), lang)

    def _repr_html_(self) -> str:
        return html(self)

    def compare(self, other: Study) -> polars.DataFrame:
        """This study beside another: best, trials, epochs, seconds, and seconds until the other's best was reached."""
        import polars

        if (self.metric, self.greater_is_better) != (other.metric, other.greater_is_better):
            raise SpecError(f"these studies judge by {self.metric} and {other.metric}: they cannot be compared.")
        rows = []
        for name, one, another in (("this", self, other), ("other", other, self)):
            goal, sign = another.best.score, -1 if self.greater_is_better else 1
            reached = [t.seconds or 0.0 for t in one.ranked() if sign * t.score <= sign * goal]
            rows.append(
                {"study": name, self.metric: one.best.score, "deviation": one.best.deviation(one.metric)}
                | {"trials": len(one.trials), "epochs": sum(t.epochs for t in one.trials)}
                | {"seconds": one.seconds, "reached_the_others_best": min(reached, default=None)}
            )
        return polars.DataFrame(rows)

    # -- going on
    def refit(self, data: Any = None, *, out: str | Path | None = None, progress: bool = True, **changes: Any) -> Run:
        """Train the best trial's experiment again, as a run; `changes` are fields of the experiment."""
        data = self.load_data() if data is None else as_dataset(data)
        return self.replayed().replace(**changes).fit(data, out=out, progress=progress)

    def schedule(self) -> Schedule:
        """The learning rates that population-based training came to, as a schedule of factors of the first one.

        Raises SpecError where no rate of the best trial changed while it trained.
        """
        return schedule_of(self)

    def replayed(self) -> Experiment:
        """The best trial's experiment; after population-based training with its first learning rate and `schedule()`.

        The other values are those that the trial ended with.
        """
        return replayed(self)

    def resume(
        self, data: Any = None, *, progress: bool = True, workers: int | None = None, ray: str | None = None
    ) -> Study:
        """Go on with a search that was interrupted, as if it never had been; one whose time was over stays as it is.

        data: what it was started on; data from a file or a bundled set are found again. workers, ray: who goes on
        with a search that was started with workers or on Ray, by default as many processes as there are cores.
        Raises RunError where the data, or the experiment in the folder, are not those it was started with.
        """
        if self.state in ("finished", "out of time"):
            return self
        if self.path is None:
            raise RunError("a search in memory cannot be continued: give it a folder, tune(..., out=...).")
        if not self.settings.units and (workers, ray) != (None, None):
            raise RunError("this search trains its trials itself, and goes on so: resume it without workers or ray.")
        data = self.load_data() if data is None else as_dataset(data)
        if data.fingerprint != self.about_data["fingerprint"]:
            raise RunError(
                f"these are not the data of the study: their fingerprint is {data.fingerprint[:12]}, the study's is "
                f"{self.about_data['fingerprint'][:12]}. Bring the data back as they were, or start a new study."
            )
        with Lock(self.path, "study"):
            experiment, settings, _, state, folder = _read(self.path)
            search = _search(experiment, self.space, data, settings, workers, ray)
            names = checkpoint.read_manifest(folder)["names"]
            search.restore(state | {"stopped": ""}, names, lambda like: checkpoint.load(folder, like)[0])
            replace_file(self.path / "trials.jsonl", "".join(map(_line, search.ended_since(0))).encode())
            _run(search, self.path, progress)
        return Study(experiment, settings, self.about_data, search.state(), search.best, data, self.path)

    # -- predicting
    def ensemble(self, members: int | None = None, data: Any = None, *, out: str | Path | None = None) -> Run:
        """The best trials together as one run: what their weights predict is averaged.

        members: how many nets, the best trial's first; by default all that were kept, those of the best `settings.keep`
        trials with each of their folds and seeds. The nets of folds scale columns each by its own rows. Raises RunError
        where fewer were kept.
        """
        return ensemble_of(self, members, self.load_data() if data is None else as_dataset(data), out)

    def load_data(self) -> Any:
        """The data of the study, found again where they came from. Raises RunError, DataError."""
        from derin.data import load as load_data

        if self.data is None:
            source = self.about_data.get("source")
            if source is None:
                raise RunError("this study was made on arrays in memory: pass them, study.refit(data).")
            self.data = load_data(source, **self.about_data["options"])
            if self.data.fingerprint != self.about_data["fingerprint"]:
                raise RunError(f"{source} is not what this study was made on: bring the data back as they were.")
        return self.data


def _same(experiment: Experiment, _: Any) -> Experiment:
    """The experiment of the only trial of a cross-validation."""
    return experiment


def _check_searchable(space: Space) -> None:
    """Two fields are not a trial's own."""
    if "seed" in space.paths:
        raise SpecError("seed is not searched: seeds=3 trains each trial from three first weights. Give one seed.")
    if "metrics" in space.paths:
        raise SpecError("metrics are what trials are compared by, so all have the same: give one tuple of names.")


def _each_once(space: Space, settings: Settings) -> Settings:
    """Where there are fewer different trials than were asked for, each is trained once."""
    exploring = isinstance(settings.pruner, PopulationBased)  # there equal trials come to differ
    if exploring or isinstance(settings.sampler, GivenTrials) or space.size > (settings.trials or math.inf):
        return settings
    if math.isinf(space.size):
        return settings
    return settings.replace(trials=int(space.size), sampler=Grid(points=int(space.size)))


def _check_rule(experiment: Experiment, settings: Settings) -> None:
    """A rule that waits needs trials that come to a rung together, and a rung."""
    rule, trials = settings.pruner, settings.trials
    if rule is None or not rule.waits or trials is None:
        return
    name, together = type(rule).__name__, settings.sampler.together(trials)
    if together < rule.fewest:
        raise SpecError(
            f"{name} compares trials that train together, at least {rule.fewest} of them, and "
            f"{type(settings.sampler).__name__} asks for {together} at a time of {trials} trials: give more trials"
            + (f", or Optuna(batch={rule.fewest})" if isinstance(settings.sampler, Optuna) else "")
            + ', or a rule that does not wait, pruner="asha".'
        )
    if isinstance(rule, PopulationBased) and isinstance(experiment.epochs, int) and rule.every >= experiment.epochs:
        raise SpecError(
            f"{rule!r} exchanges weights every {rule.every} epochs, and a trial has {experiment.epochs}: give more "
            f"epochs, or pruner=PopulationBased(every={max(1, experiment.epochs // 4)})."
        )


def _check_exploring(space: Space, settings: Settings) -> None:
    """Weights go from one trial to another only where all have the same structure."""
    if not isinstance(settings.pruner, PopulationBased):
        return
    middle = [0.5] * len(space.dimensions)
    trees = set()
    for i, d in enumerate(space.dimensions):
        for u in (0.5, 0.0, 1.0):
            at = [*middle]
            at[i] = u
            with suppress(SpecError):  # two numbers that do not go together
                trees.add(jax.tree.structure(space.fixed(space.at(at))))
            if len(trees) > 1:
                raise SpecError(
                    f"PopulationBased moves weights from trial to trial, so their nets must be alike, and {d.path} "
                    "changes the structure. Fix it, or use another pruner."
                )

"""A search for settings on the validation data: of a student, or of a teacher."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from kdrec.digests import digest
from kdrec.errors import KdrecError
from kdrec.ranges import Count, Natural, check_range
from kdrec.stages import distill, train
from kdrec.stages.context import Context, Plain, flat
from kdrec.stages.debias import teacher_settings
from kdrec.stages.experiment import chosen, schedule, write_experiment, write_settings
from kdrec.stages.members import is_learnt, teacher_name
from kdrec.stages.models import fit_options
from kdrec.stages.output import drop_unused, say, show_json, wants_json
from kdrec.stages.preprocess import Data, ensure_split
from kdrec.stages.space import configured, described, search_space, with_settings
from kdrec.tuning.space import Space, at_ends, size, typed

if TYPE_CHECKING:
    from kdrec.stages.tuner import Role
    from kdrec.tuning.search import Trial

#: Raised when the same configuration begins to give another search.
VERSION = 1


def need_optuna() -> None:
    """Asks for the extra before anything is made.

    Raises:
        KdrecError: If Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise KdrecError(
            "kdrec tune needs the package optuna, which is not installed.",
            "Install it with: pip install 'kdrec[tune]'",
        )


def search_identity(cfg: DictConfig, data: Data, role: Role, space: Space) -> str:
    """What determines the trials of a search, as a digest; how many there are to be does not."""
    return digest(
        {
            "kind": "search",
            "version": VERSION,
            "model": role.identity(with_settings(cfg, {}), data),
            "metric": role.metric,
            "space": described(space),
            "seed": cfg.tune.seed,
        }
    )


@dataclass(frozen=True, slots=True)
class _Unmade:
    """Stands for the split before it is made: what changes a model does so with any data."""

    identity: str = ""


def check(cfg: DictConfig) -> None:
    """Refuses what cannot be searched, before anything is made.

    Raises:
        UsageError: If a number of `tune`, the space, or what is to be trained cannot be.
        KdrecError: If Optuna is not installed.
    """
    check_range("tune.trials", cfg.tune.trials, Count)
    check_range("tune.seed", cfg.tune.seed, Natural)
    need_optuna()
    from kdrec.stages.tuner import Role  # noqa: PLC0415  (imports Optuna)

    role = Role.of(cfg)
    if role.is_teacher:
        train.check(cfg)
    else:
        distill.check(cfg)
    search_space(cfg, lambda one: role.identity(one, _Unmade()))


def run(cfg: DictConfig) -> float | None:
    """`kdrec tune`: makes the trials that are missing and shows all; returns the best value.

    Raises:
        KdrecError: If every trial failed.
    """
    check(cfg)
    from kdrec.stages.tuner import Role, Tuner  # noqa: PLC0415  (import Optuna)
    from kdrec.tuning.search import Search, best_of  # noqa: PLC0415

    context, role = Context.of(cfg), Role.of(cfg)
    data = ensure_split(cfg, context)
    space = search_space(cfg, lambda one: role.identity(one, data))
    identity = search_identity(cfg, data, role, space)
    search = Search(
        context.output_dir / "tuning" / f"{role.name}_{identity[:8]}",
        space,
        first=configured(cfg, space),
        seed=int(cfg.tune.seed),
        anew=context.force,
    )
    Tuner(search, cfg, context, data, role).make(int(cfg.tune.trials))
    # the budget is what was asked for, also where an earlier search was longer
    trials = search.trials()[: int(cfg.tune.trials)]
    best = best_of(trials)
    if best is None:
        reasons = {trial.notes.get("reason") for trial in trials} - {None}
        raise KdrecError(
            f"No trial of {search.folder} has finished.",
            "\n".join([*sorted(map(str, reasons)), "To begin anew: force=true"]),
        )
    experiment = search.folder / "experiment" / f"{role.name}.yaml"
    what = (
        f"Chosen by kdrec tune, validation {role.metric} {best.value:.4f}, the best of "
        f"{_trials(len(trials))}"
    )
    if running := _running(trials):
        what += f" ({running} of them not finished)"
    theirs = with_settings(cfg, best.settings)
    what += f"; {circumstances(theirs, role, space)}"
    what += f"; searched {' '.join(f'{key}={part}' for key, part in space.items())}"
    write_experiment(experiment, theirs, settings=space, what=what, for_teacher=role.is_teacher)
    tuned = search.folder / "tuned" / ("teacher" if role.is_teacher else "")
    write_settings(tuned / f"{role.name}.yaml", theirs, settings=space, what=what)
    show(search.folder, trials, best, role, space)
    drop_unused(context)
    return best.value


def circumstances(cfg: DictConfig, role: Role, space: Space) -> str:
    """What the settings were chosen under: a file of them alone does not say."""
    said = [f"protocol {chosen('protocol')}"]
    if not role.is_teacher:
        said.append(schedule(cfg, "fit", space))
    if role.is_teacher or cfg.method.distiller is not None:
        fit = flat("teacher_fit", fit_options(cfg.teacher_fit)) if is_learnt(cfg) else {}
        told: Plain = {key: fit[key] for key in ("teacher_fit.lr", "teacher_fit.l2") if fit}
        settings = " ".join(typed({**teacher_settings(cfg), **told}))
        said += [schedule(cfg, "teacher_fit", ("lr", "l2", *space))] if fit else []
        said.append(f"teacher {teacher_name(cfg)} ({settings})")
    return ", ".join(said)


def show(folder: Path, trials: Sequence[Trial], best: Trial, role: Role, space: Space) -> None:
    """The trials, the best first, and what to do with it."""
    rows = [row(trial) for trial in sorted(trials, key=_rank)]
    command, n_points = how_to_run(folder, role.name), size(space)
    ends = at_ends(space, best.settings)
    if wants_json():
        show_json(
            {
                "folder": str(folder),
                "metric": role.metric,
                "space_size": n_points,
                "best": row(best),
                "at_ends": ends,
                "trials": rows,
                "experiment": str(folder / "experiment" / f"{role.name}.yaml"),
                "command": command,
            }
        )
        return
    from kdrec.report.render import console  # noqa: PLC0415  (rich is slow)
    from kdrec.report.trials import show_trials  # noqa: PLC0415

    title = f"{role.name}: {_trials(len(rows))}"
    title += f" of {n_points} point{'s' * (n_points != 1)}" if n_points is not None else ""
    show_trials(rows, f"{title}, by validation {role.metric}", role.metric, console())
    if running := _running(trials):
        say(f"Another process makes {running} more: the best may change, run this again then.")
    failed = sum(trial.state == "failed" for trial in trials)
    if failed:
        say(f"{failed} failed: they count among tune.trials; force=true begins the search anew.")
    if ends:
        searched = ", ".join(f"{key} in {space[key]}" for key in ends)
        say(f"The best lies at an end of what was searched ({searched}); a wider")
        say("tune.space.KEY= may hold better.")
    say(f"Kept in {folder}")
    say(f"To run the best: {command}")


def _trials(n: int) -> str:
    return "1 trial" if n == 1 else f"{n} trials"


def _running(trials: Sequence[Trial]) -> int:
    return sum(trial.state == "running" for trial in trials)


def _rank(trial: Trial) -> tuple[float, int]:
    """Best first, then those without a value."""
    return (1.0 if trial.value is None else -trial.value, trial.number)


def row(trial: Trial) -> dict[str, Any]:
    """A trial as it is shown."""
    notes = {name: trial.notes.get(name) for name in ("epochs", "seconds", "folder", "reason")}
    return {
        "trial": trial.number + 1,
        "state": trial.state,
        "value": trial.value,
        "settings": dict(trial.settings),
        **notes,
    }


def how_to_run(folder: Path, name: str) -> str:
    """The command that runs the chosen experiment.

    Hydra takes one folder: if the command had one of the user's, the file is to be copied there.
    """
    sources = HydraConfig.get().runtime.config_sources
    theirs = [source.path for source in sources if source.provider == "command-line"]
    given = theirs[0] if theirs else str(folder)
    command = f"kdrec distill --config-dir {shlex.quote(given)} experiment={name}"
    if not theirs:
        return command
    place = shlex.quote(f"{given}/experiment")
    file = shlex.quote(f"{folder}/experiment/{name}.yaml")
    return f"mkdir -p {place} && cp {file} {place}/ && {command}"

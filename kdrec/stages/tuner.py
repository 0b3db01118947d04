"""The trials of a search: each an ordinary run, judged by its validation metric alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from omegaconf import DictConfig

from kdrec.artifacts import Run
from kdrec.errors import KdrecError, StorageError, UsageError
from kdrec.progress import task
from kdrec.stages.context import Context, plain
from kdrec.stages.distill import ensure_student, student_identity
from kdrec.stages.experiment import chosen
from kdrec.stages.preprocess import Data, Identified
from kdrec.stages.space import with_settings
from kdrec.stages.train import ensure_teacher, teacher_identity
from kdrec.tuning.search import Search, Trial, best_of
from kdrec.tuning.space import typed

log = logging.getLogger(__name__)

_OF_SEARCH = ("tune.", "role=", "force=")


@dataclass(frozen=True, slots=True)
class Role:
    """Whose settings are searched.

    Args:
        name: Of the search and its files: `citeulike-bprmf-unkd`, with `-pd` behind it where a
            debiased teacher is searched, or teaches.
        metric: What the validation of its training measures: `ndcg@20`.
        identity: What determines its model.
        ensure: Makes its run, or finds it.
        is_teacher: Whether it is the teacher.
    """

    name: str
    metric: str
    identity: Callable[[DictConfig, Identified], str]
    ensure: Callable[[DictConfig, Context, Data], Run]
    is_teacher: bool

    @classmethod
    def of(cls, cfg: DictConfig) -> Role:
        """The role that the configuration chose."""
        if cfg.role.name == "teacher":
            name, metric = chosen("teacher"), f"ndcg@{cfg.teacher_fit.cutoff}"
            kind = (teacher_identity, ensure_teacher)
        else:
            name, metric = f"{chosen('student')}-{chosen('method')}", f"ndcg@{cfg.fit.cutoff}"
            kind = (student_identity, ensure_student)
        teaches = cfg.role.name == "teacher" or cfg.method.distiller is not None
        if teaches and chosen("debias") != "none":
            name += f"-{chosen('debias')}"
        return cls(
            f"{cfg.dataset.name}-{name}", metric, *kind, is_teacher=cfg.role.name == "teacher"
        )


@dataclass(slots=True)
class Tuner:
    """Makes the trials of a search.

    Args:
        search: Says what to try, and keeps what came of it.
        cfg: The command's configuration.
        context: Where and how.
        data: The split.
        role: Whose settings.
        ready: Whether what all trials share has been made.
    """

    search: Search
    cfg: DictConfig
    context: Context
    data: Data
    role: Role
    ready: bool = field(default=False, init=False)

    def make(self, n_trials: int) -> None:
        """Makes trials until there are so many in all, or no point is left."""
        metric = self.role.metric
        with task(f"tune {self.role.name}", total=n_trials, unit="trial") as progress:
            ended = 0
            while True:
                there = self.search.trials()[:n_trials]
                now = sum(one.state != "running" for one in there)  # others may make some, too
                best = best_of(there)
                fields = {} if best is None else {f"best {metric}": best.value or 0.0}
                progress.advance(now - ended, **fields)
                ended = now
                with self.search.begin(n_trials) as trial:
                    if trial is None:
                        return
                    log.info("Trial %d of %d%s: %s", trial.number + 1, n_trials,
                             "" if best is None else f" (best so far: {best.value:.4f})",
                             " ".join(typed(trial.settings)))  # fmt: skip
                    value = self.attempt(trial)
                if value is not None:
                    log.info("Trial %d: %s %.4f", trial.number + 1, metric, value)

    def attempt(self, trial: Trial) -> float | None:
        """Makes one trial, keeps how it ended, and returns its value.

        What goes wrong with its settings is kept as a failure: None. What goes wrong with the
        machine is not: the trial stays under way, and the next search takes it up again.

        Raises:
            UsageError: If no trial has gone well before: the configuration is wrong for all.
            StorageError: If a file cannot be written, or is damaged.
            KdrecError: If the teacher cannot be made.
        """
        if not self.ready:
            self._make_shared()
        cfg = with_settings(self.cfg, trial.settings)
        given = [o for o in self.context.overrides if not o.lstrip("+~").startswith(_OF_SEARCH)]
        context = replace(
            self.context, config=plain(cfg), overrides=[*given, *typed(trial.settings)], force=False
        )
        try:
            run = self.role.ensure(cfg, context, self.data)
            value = validation(run, self.role.metric)
        except StorageError:
            raise
        except (KdrecError, RuntimeError, ArithmeticError) as error:
            if isinstance(error, UsageError) and best_of(self.search.trials()) is None:
                raise
            reason = error.what if isinstance(error, KdrecError) else str(error)
            reason = next(iter(reason.splitlines()), type(error).__name__)
            self.search.fail(trial, reason)
            log.warning("Trial %d failed: %s", trial.number + 1, reason)
            return None
        training = run.manifest["training"]
        self.search.finish(
            trial,
            value,
            epochs=training.get("epochs"),
            seconds=training.get("seconds"),
            folder=str(run.folder),
        )
        return value

    def _make_shared(self) -> None:
        """The teacher: what is wrong with it is wrong with every trial."""
        if not self.role.is_teacher and self.cfg.method.distiller is not None:
            cfg = with_settings(self.cfg, {})
            ensure_teacher(cfg, replace(self.context, config=plain(cfg)), self.data)
        self.ready = True


def validation(run: Run, metric: str) -> float:
    """The validation metric of a finished run: the best of its training.

    What is not learnt by gradient descent (a closed form, an ensemble) has none, and its evaluation
    on the validation data counts.

    Raises:
        UsageError: If such a model was not evaluated with this metric.
    """
    value = run.manifest["training"].get("best_value")
    if value is None:
        rows = [row["value"] for row in run.manifest["metrics"]
                if (row["target"], row["metric"]) == ("valid", metric)]  # fmt: skip
        if not rows:
            name, _, cutoff = metric.partition("@")
            raise UsageError(
                f"This model is not validated while it is trained, and {metric} is not evaluated.",
                f"metric must have {name}, and evaluation.cutoffs {cutoff}.",
            )
        value = rows[0]
    return float(value)

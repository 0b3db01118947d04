"""A search on disk, that several processes share and that outlives them.

`journal.log` is Optuna's own (`JournalStorage`), so that its tools can read it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages.journal import JournalFileBackend, JournalStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from kdrec.errors import KdrecError
from kdrec.locks import lock, try_lock
from kdrec.tuning.journal import JOURNAL, forget, mend, seal
from kdrec.tuning.space import Settings, Space, Value
from kdrec.tuning.suggest import distributions, suggest

STUDY = "kdrec"
_LOCK = ".lock"

State = Literal["finished", "failed", "running"]
_STATES: dict[TrialState, State] = {TrialState.COMPLETE: "finished", TrialState.FAIL: "failed"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One point that is tried, or was.

    Args:
        number: Its place in the search, from 0.
        settings: Value by override key.
        state: How it stands.
        value: Validation metric; None until it is finished.
        notes: What else is known: epochs, seconds, folder, reason of a failure.
    """

    number: int
    settings: Settings
    state: State
    value: float | None
    notes: Mapping[str, Any]


def quiet_optuna() -> None:
    """Sends Optuna's warnings to our log, and its chat nowhere."""
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)


class Search:
    """The trials in a folder; one more is begun with `begin` and ended with `finish` or `fail`.

    A trial whose process died is begun again by the next one that looks: a lock file tells.

    Args:
        folder: Where the journal lies; made if missing.
        space: Where to draw from.
        first: Settings of the first trial, where the space allows them.
        seed: Of the sampler.
        anew: Forget the trials that are there.

    Raises:
        KdrecError: If the journal cannot be read, or is not what was written.
    """

    def __init__(
        self, folder: Path, space: Space, *, first: Settings, seed: int, anew: bool
    ) -> None:
        quiet_optuna()
        self.folder, self.space, self.first, self.seed = folder, space, first, seed
        with self._locked():
            if anew:
                forget(folder)
            mend(folder)
            try:
                self._storage = JournalStorage(JournalFileBackend(str(folder / JOURNAL)))
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name=STUDY,
                    direction="maximize",
                    load_if_exists=True,
                )
                seal(folder)
            except (ValueError, KeyError, TypeError) as error:
                raise KdrecError(
                    f"{folder / JOURNAL} cannot be read: {error}.",
                    "To begin the search anew: force=true",
                ) from error

    def trials(self) -> list[Trial]:
        """All trials, in their order."""
        return [_trial(one) for one in self._history()]

    @contextlib.contextmanager
    def begin(self, n_trials: int) -> Iterator[Trial | None]:
        """A trial to make within the block; None if there are `n_trials`, or no point is left."""
        with contextlib.ExitStack() as held:
            with self._locked():
                mend(self.folder)
                trial = self._abandoned(held) or self._new(n_trials, held)
            yield trial

    def finish(self, trial: Trial, value: float, **notes: Any) -> None:
        """Keeps the value of a trial.

        Raises:
            ValueError: If it is not finite.
        """
        if not math.isfinite(value):
            raise ValueError(f"trial {trial.number} has the value {value}")
        self._end(trial, TrialState.COMPLETE, [value], notes)

    def fail(self, trial: Trial, reason: str) -> None:
        """Keeps that a trial failed, and why."""
        self._end(trial, TrialState.FAIL, None, {"reason": reason})

    def _locked(self) -> contextlib.AbstractContextManager[None]:
        return lock(self.folder / _LOCK, f"the search {self.folder}")

    def _history(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)

    def _claim(self, number: int, held: contextlib.ExitStack) -> bool:
        return held.enter_context(try_lock(self.folder / ".trials" / f"{number}.lock"))

    def _abandoned(self, held: contextlib.ExitStack) -> Trial | None:
        """A trial that is marked as under way, and that nobody is making."""
        running = (one for one in self._history() if one.state == TrialState.RUNNING)
        return next((_trial(one) for one in running if self._claim(one.number, held)), None)

    def _new(self, n_trials: int, held: contextlib.ExitStack) -> Trial | None:
        history = self._history()
        if len(history) >= n_trials:
            return None
        settings = suggest(self.space, history, first=self.first, seed=self.seed)
        if settings is None:
            return None
        self._claim(len(history), held)
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=settings,
                distributions=distributions(self.space),
            )
        )
        seal(self.folder)
        return Trial(len(history), settings, "running", None, {})

    def _end(
        self, trial: Trial, state: TrialState, values: list[float] | None, notes: Mapping[str, Any]
    ) -> None:
        with self._locked():
            mend(self.folder)
            study_id = self._storage.get_study_id_from_name(STUDY)
            at = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            for name, note in notes.items():
                self._storage.set_trial_user_attr(at, name, note)
            self._storage.set_trial_state_values(at, state, values)
            seal(self.folder)


def best_of(trials: Iterable[Trial]) -> Trial | None:
    """The finished trial with the highest value, the earliest of equal ones."""
    finished = [(trial, trial.value) for trial in trials if trial.value is not None]
    return max(finished, key=lambda pair: pair[1])[0] if finished else None


def _trial(one: FrozenTrial) -> Trial:
    settings: dict[str, Value] = dict(one.params)
    value = one.value if one.state == TrialState.COMPLETE else None
    return Trial(one.number, settings, _STATES.get(one.state, "running"), value, one.user_attrs)

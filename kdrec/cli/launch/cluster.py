"""`hydra/launcher=ray`: jobs on a cluster of Ray, or on a local one that is started for them.

Hydra's own launcher for Ray wants another cloudpickle than joblib does, and does not begin a job
again whose worker was killed; this one hands jobs to Ray's tasks, which do.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from kdrec.cli.launch.base import ParallelLauncher, Tasks
from kdrec.cli.launch.task import Outcome, Task
from kdrec.errors import KdrecError, UsageError

log = logging.getLogger(__name__)


class RayLauncher(ParallelLauncher):
    """Runs jobs as tasks of Ray.

    Args:
        init: Options of `ray.init`, those that are null left out: `address`, `num_cpus`, ...
        remote: Options of a task: `num_cpus`, `num_gpus`, `max_retries`, ...
    """

    def __init__(self, *, init: Mapping[str, Any], remote: Mapping[str, Any]) -> None:
        self.init = _given(init)
        self.remote = _given(remote)

    def threads(self, n_jobs: int) -> int:  # noqa: ARG002  (the cluster says how many at once)
        """As many as a job reserves cores."""
        reserved = self.remote.get("num_cpus", 1)
        if reserved <= 0:
            raise UsageError(
                f"hydra.launcher.remote.num_cpus={reserved} reserves no core.", "Give at least 1."
            )
        return max(1, int(reserved))

    def run(self, tasks: Tasks) -> Iterator[Outcome]:
        """Hands all jobs to Ray; one whose worker dies begins again, `max_retries` times."""
        ray = _ray()
        local = "address" not in self.init
        ray.init(
            **{"log_to_driver": False, "logging_level": logging.WARNING}
            | ({"include_dashboard": False} if local else {})
            | self.init
        )
        try:
            remote = ray.remote(_execute).options(**self.remote)
            under_way = {}
            for compose in tasks.values():
                task = compose()
                under_way[remote.remote(task)] = task
            while under_way:
                (done,), _ = ray.wait(list(under_way), num_returns=1)
                task = under_way.pop(done)
                try:
                    yield ray.get(done)
                except ray.exceptions.RayError as error:
                    what = " ".join(str(error).split()) or type(error).__name__
                    yield task.fail(KdrecError(f"Ray gave the job up: {what}"))
        except BaseException:
            for reference in under_way:
                ray.cancel(reference, force=True)
            raise
        finally:
            ray.shutdown()


def _ray() -> Any:
    """Ray, without the token that it would put into the home folder.

    Raises:
        UsageError: If it is not installed.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise UsageError("Ray is not installed.", "pip install 'kdrec[ray]'") from error
    return ray


def _execute(task: Task) -> Outcome:
    return task.execute()


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    plain = OmegaConf.to_container(options) if OmegaConf.is_config(options) else options
    return {str(key): value for key, value in dict(plain).items() if value is not None}  # type: ignore[arg-type]

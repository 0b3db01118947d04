"""A finished run, evaluated in another way; nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from kdrec.artifacts import MANIFEST, Run, finished_runs
from kdrec.errors import KdrecError, UsageError
from kdrec.stages.context import Context
from kdrec.stages.distill import ensure_student
from kdrec.stages.output import show_run
from kdrec.stages.preprocess import ensure_split
from kdrec.stages.train import ensure_teacher


def chosen_run(output_dir: Path, name: str) -> Run:
    """The finished run with this folder, or with this beginning of its identity.

    Raises:
        UsageError: If there is none, or several different ones.
    """
    runs = [run for run in finished_runs(output_dir) if run.manifest.get("training") is not None]
    wanted = Path(name.removesuffix(MANIFEST))
    here = [run for run in runs if run.folder.resolve() == wanted.resolve()]
    found = here or [run for run in runs if run.identity.startswith(name)]
    if not found:
        raise UsageError(
            f"run={name} is no finished run below {output_dir}.",
            "Give its folder, or the first characters of its identity; `kdrec report --json` "
            "lists the finished runs.",
        )
    if len({run.identity for run in found}) > 1:
        folders = ", ".join(str(run.folder) for run in found[:4])
        raise UsageError(f"run={name} fits several runs: {folders}.", "Give more characters.")
    return max(found, key=lambda run: str(run.manifest["finished"]))


def run(cfg: DictConfig) -> float | None:
    """`kdrec evaluate`: evaluates a finished run with this command's metrics and groups."""
    context = replace(Context.of(cfg), force=False)
    source = chosen_run(context.output_dir, str(cfg.run))
    then = OmegaConf.create(dict(source.manifest["config"]))
    with open_dict(then):
        for key in ("evaluation", "metric", "output_dir", "data_dir", "device", "threads"):
            then[key] = cfg[key]
    data = ensure_split(then, context)
    ensure = ensure_teacher if source.manifest["labels"]["role"] == "teacher" else ensure_student
    finished = ensure(then, context, data, own=True)
    if finished.identity != source.identity:
        raise KdrecError(
            f"{source.folder} was made by another version of kdrec, which numbered it differently.",
            "Run its command again; the manifest has its overrides.",
        )
    return show_run(finished, context)

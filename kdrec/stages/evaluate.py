"""A finished run, evaluated in another way; nothing is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict

from kdrec import trust
from kdrec.artifacts import MANIFEST, Run, finished_runs
from kdrec.errors import KdrecError, UsageError
from kdrec.stages.context import Context, plain
from kdrec.stages.distill import ensure_student, student_identity
from kdrec.stages.output import show_run
from kdrec.stages.preprocess import ensure_split
from kdrec.stages.train import ensure_teacher, teacher_identity, teacher_is_trained
from kdrec.stages.weights import trained_run


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


def asked(cfg: DictConfig, overrides: list[str]) -> str:
    """`run=` as it was typed: `run=3e12` is an identity and no number."""
    typed = [word.removeprefix("run=") for word in overrides if word.startswith("run=")]
    return (typed or [str(cfg.run)])[-1].strip("'\"")


def run(cfg: DictConfig) -> float | None:
    """`kdrec evaluate`: evaluates a finished run with this command's metrics and groups."""
    context = Context.of(cfg)
    source = chosen_run(context.output_dir, asked(cfg, context.overrides))
    then = OmegaConf.create(dict(source.manifest["config"]))
    trust.check(plain(then), f"{source.folder / MANIFEST}: config")
    with open_dict(then):
        for key in ("evaluation", "metric", "output_dir", "data_dir", "device", "threads"):
            then[key] = cfg[key]
    context = replace(context, force=False, require=True, config=plain(then))
    data = ensure_split(then, context)
    is_teacher = source.manifest["labels"]["role"] == "teacher"
    identity = (teacher_identity if is_teacher else student_identity)(then, data)
    if identity != source.identity:
        raise KdrecError(
            f"{source.folder} was made by another version of kdrec, which numbered it differently.",
            "Run its command again; its manifest has the overrides.",
        )
    there = (
        teacher_is_trained(then, context, data)
        if is_teacher
        else trained_run(context, identity) is not None
    )
    if not there:
        raise KdrecError(
            f"The weights of {source.folder} are gone: no run with this identity holds them.",
            "Run its command again; its manifest has the overrides.",
        )
    ensure = ensure_teacher if is_teacher else ensure_student
    return show_run(ensure(then, context, data, own=True), context)

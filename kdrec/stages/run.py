"""The whole pipeline: data, teacher, student alone, student with the method, tables."""

from __future__ import annotations

import logging
from dataclasses import replace

from omegaconf import DictConfig, OmegaConf, open_dict

from kdrec.stages import distill, train
from kdrec.stages.context import Context, plain
from kdrec.stages.distill import ensure_student
from kdrec.stages.output import drop_unused, show_json, wants_json
from kdrec.stages.preprocess import ensure_split
from kdrec.stages.train import ensure_teacher

log = logging.getLogger(__name__)


def without_method(cfg: DictConfig) -> DictConfig:
    """The same configuration with a student that learns from data alone."""
    alone = OmegaConf.create(cfg)
    assert isinstance(alone, DictConfig)  # noqa: S101  (narrows the type)
    with open_dict(alone):
        alone.method = {"name": "none", "distiller": None}
        alone.lr, alone.l2 = cfg.alone.lr, cfg.alone.l2
    return alone


def check(cfg: DictConfig) -> None:
    """Refuses what cannot be trained, before anything is.

    Raises:
        UsageError: If the teacher or the student cannot be made, or the teacher is not what the
            method needs.
    """
    train.check(cfg)
    distill.check(cfg)


def run(cfg: DictConfig) -> float | None:
    """`kdrec run`: makes what is missing of every stage and shows the comparison."""
    from kdrec.report import build  # noqa: PLC0415  (rich is slow to import)
    from kdrec.report.render import console  # noqa: PLC0415

    check(cfg)
    context = Context.of(cfg)
    data = ensure_split(cfg, context)
    alone = without_method(cfg)
    runs = [
        ensure_teacher(cfg, context, data, redo=context.force),
        ensure_student(alone, replace(context, config=plain(alone)), data, redo=context.force),
    ]
    if cfg.method.distiller is not None:
        runs.append(ensure_student(cfg, context, data, redo=context.force))
    folders = [run.folder for run in runs]
    report = build(context.output_dir, runs=folders, cutoff=cfg.evaluation.cutoffs[0])
    if wants_json():
        show_json(report.as_json())
    else:
        report.show(console())
    log.info("Written: %s", ", ".join(str(path) for path in report.write()))
    drop_unused(context)
    value = runs[-1].manifest["training"].get("best_value")
    return None if value is None else float(value)

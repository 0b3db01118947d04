"""Official files, checked, into `data/raw/`."""

from __future__ import annotations

from omegaconf import DictConfig

from kdrec.stages.context import Context
from kdrec.stages.output import drop_unused, say, show_json, wants_json
from kdrec.stages.preprocess import fetch_files


def run(cfg: DictConfig) -> float | None:
    """`kdrec download`: fetches what is missing and says where it is."""
    context = Context.of(cfg)
    files = fetch_files(cfg, context)
    drop_unused(context)
    if wants_json():
        show_json({"dataset": cfg.dataset.name, "files": [str(path) for path in files]})
        return None
    for path in files:
        say(str(path))
    if not files:
        say(f"{cfg.dataset.name} is made on the spot: there is nothing to download.")
    return None

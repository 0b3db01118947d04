"""A user's config file that another of the same name hides."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from kdrec.cli.composed import choices
from kdrec.errors import UsageError


def check(loader: ConfigLoader, config: DictConfig) -> None:
    """Refuses a choice that stands in two config folders: Hydra would take the first, in silence.

    Args:
        loader: Hydra's, over the folders.
        config: Composed, with Hydra's own node.

    Raises:
        UsageError: If the files of that name differ.
    """
    paths = [part.path for part in loader.get_search_path().get_path()]
    local = [path.removeprefix("file://") for path in paths if path]
    folders = [Path(path) for path in local if "://" not in path]
    for group, chosen in choices(config).items():
        for name in chosen if isinstance(chosen, list) else [chosen]:
            files = [folder / group / f"{name}.yaml" for folder in folders]
            there = [file for file in files if file.is_file()]
            if len({file.read_bytes() for file in there}) > 1:
                ours, theirs = there[:2]
                raise UsageError(
                    f"{group}={name} stands in two files: {ours} and {theirs}.",
                    "The first would count. Give yours another name, or overwrite the first.",
                )

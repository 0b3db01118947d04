"""A user's config file that another of the same name hides."""

from __future__ import annotations

from pathlib import Path

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig

from kdrec.cli.composed import choices
from kdrec.cli.confdir import ROLES
from kdrec.errors import UsageError


def check(loader: ConfigLoader, config: DictConfig) -> None:
    """Refuses a choice that stands in two config folders: Hydra would take the first, in silence.

    A teacher and a student are looked for among the models, too. Files that a chosen file is
    itself made of, by its own defaults, are not looked at.

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
            for part in {group, ROLES.get(group, group)}:
                files = [folder / part / f"{name}.yaml" for folder in folders]
                there = [file for file in files if file.is_file()]
                if len({file.read_bytes() for file in there}) > 1:
                    raise UsageError(
                        f"{group}={name} stands in two files: {there[0]} and {there[1]}.",
                        "The first would count. Give yours another name, or overwrite the first.",
                    )

"""What the files of `conf/experiment/` choose, read before Hydra composes anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any


def choices(name: str, folders: Sequence[Path], above: tuple[str, ...] = ()) -> Iterator[str]:
    """`group=option` for each group that an experiment, or one that it is made of, chooses.

    Args:
        name: Of the experiment; of one that is not there, or cannot be read, nothing is known.
        folders: Config folders, the first wins.
        above: Experiments that are made of this one.
    """
    from omegaconf import OmegaConf  # noqa: PLC0415  (`--help` comes by here)

    files = (folder / "experiment" / f"{name}.yaml" for folder in folders)
    path = next((file for file in files if file.is_file()), None)
    if path is None or name in above:
        return
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except Exception:  # noqa: BLE001  (Hydra says what is wrong with it, and where)
        return
    defaults = content.get("defaults") if isinstance(content, dict) else None
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, str):
            yield from choices(entry, folders, (*above, name))
        elif isinstance(entry, dict):
            for group, option in entry.items():
                yield f"{str(group).removeprefix('override ').lstrip('/')}={option}"


def named(overrides: Iterable[str]) -> list[str]:
    """The experiments that a command line names, in a sweep or by themselves."""
    values = (word.partition("=")[2] for word in overrides
              if word.lstrip("+").startswith("experiment="))  # fmt: skip
    return [name.strip() for value in values for name in value.strip("[]").split(",")]

"""Questions to a composed config, and what Hydra's complaints about one mean."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from kdrec.cli.confdir import conf_dir
from kdrec.cli.signatures import check_node, target_nodes
from kdrec.errors import KdrecError, UsageError

Plain = dict[str, Any]

_SPLIT = re.compile(r"[.\[\]]+")
_UNTUNED = re.compile(r"Could not (?:find|load) '(tuned/[^']+)'")
_NOISE = ("full_key:", "object_type", "reference_type", "See https", "To append to your")


def explain(error: Exception) -> KdrecError:
    """What one of Hydra's or OmegaConf's exceptions means for the user, in a few lines."""
    text = str(error).partition("Config search path:")[0].partition("Search path:")[0]
    text += f"\n{error.__cause__}" if error.__cause__ is not None else ""
    untuned = _UNTUNED.search(text)
    if untuned:
        return not_tuned(untuned[1])
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(_NOISE)] or [type(error).__name__]
    kind = KdrecError if type(error).__name__ == "InstantiationException" else UsageError
    return kind(lines[0], "\n".join(lines[1:4]))


def not_tuned(name: str) -> UsageError:
    """The settings of this name are not there.

    Args:
        name: `tuned/citeulike-bprmf-unkd`, or `tuned/teacher/citeulike-bprmf`.
    """
    group, _, file = name.rpartition("/")
    words = "dataset=, student=, method= and debias="
    if group == "tuned/teacher":
        words = "role=teacher and the same dataset=, teacher= and debias="
    return UsageError(
        f"There is no conf/{name}.yaml: these settings have not been tuned.",
        f"kdrec tune with {'' if group == 'tuned/teacher' else 'the same '}{words} chooses some; "
        f"then\ncp OUTPUT_DIR/tuning/{file}_*/{name}.yaml {_place()}/{group}/\n"
        "or name them yourself, without tuned= and without this experiment.",
    )


def _place() -> str:
    """The folder of the configs as seen from here; of an installed kdrec a folder of one's own."""
    folder = conf_dir()
    if (folder.parent / "__init__.py").is_file():
        return "MINE  (with --config-dir MINE)"
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


def check_config(config: DictConfig) -> None:
    """Holds every `_target_` node of a composed job config against its target's signature.

    Imports the targets.

    Raises:
        UsageError: A missing value, an unknown option, or a value of a wrong type.
    """
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UsageError(f"{missing[0]} needs a value.", f"Add {missing[0]}=VALUE.")
        content = OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise explain(error) from error
    for path, node in target_nodes(content):
        check_node(path, node)


def job_part(config: DictConfig) -> DictConfig:
    """A composed config without Hydra's own node; `${hydra:...}` still resolves."""
    HydraConfig.instance().set_config(config)
    job = copy.deepcopy(config)
    with open_dict(job):
        job.pop("hydra", None)
    return job


def hydra_part(config: DictConfig) -> DictConfig:
    """Hydra's own node of a composed config, whose `${hydra:...}` resolves."""
    HydraConfig.instance().set_config(config)
    return HydraConfig.get()  # type: ignore[return-value]


def plain(config: DictConfig) -> Plain:
    """The job part as a plain container, its interpolations as they are written."""
    content = OmegaConf.to_container(config, resolve=False)
    return (
        {str(k): v for k, v in content.items() if k != "hydra"} if isinstance(content, dict) else {}
    )


def look_up(content: object, key: str) -> tuple[bool, Any]:
    """Whether a plain container has this dotted key, and its value."""
    node: Any = content
    for part in filter(None, _SPLIT.split(key)):
        if isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        else:
            return False, None
    return True, node


def dotted(content: object, prefix: str = "") -> Iterator[str]:
    """All dotted keys of a plain container that a user may want to set."""
    if isinstance(content, dict):
        for key, value in content.items():
            if not str(key).startswith("_"):
                yield f"{prefix}{key}"
                yield from dotted(value, f"{prefix}{key}.")


def choices(config: DictConfig) -> dict[str, Any]:
    """The groups of a composed config and what was chosen of each, Hydra's own left out."""
    chosen = OmegaConf.select(config, "hydra.runtime.choices") or {}
    return {
        str(group).partition("@")[0]: value
        for group, value in chosen.items()
        if not str(group).startswith("hydra/")
    }


def type_of(default: object) -> Any:
    """The annotation that a default stands for: `[10, 20]` for `list[int]`."""
    if isinstance(default, list):
        kinds = {type(item) for item in default}
        if kinds == {int, float}:
            return list[float]
        return list[kinds.pop()] if len(kinds) == 1 else list  # type: ignore[misc]
    return dict if isinstance(default, dict) else type(default)

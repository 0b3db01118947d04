"""From a node of the configuration to what it names: the only way to code in the stages.

Each target is held against `kdrec.trust` once more, here where it is called: what an interpolation
comes to may have changed since the command line was checked, and a configuration out of a manifest
has never been on one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hydra import utils

from kdrec import trust
from kdrec.stages.context import plain


def instantiate(node: Mapping[Any, Any], **more: Any) -> Any:
    """What Hydra makes of a node whose targets are trusted.

    Args:
        node: A configuration node, or a plain dict.
        more: Passed on.

    Raises:
        UsageError: If a target is code of others, and the command line does not allow it.
    """
    content = plain(node)
    trust.check(content)
    return utils.instantiate(content, **more)


def get_class(target: str) -> type:
    """The class of a trusted dotted path.

    Raises:
        UsageError: If it is code of others, and the command line does not allow it.
    """
    trust.check({trust.TARGET: target})
    return utils.get_class(target)

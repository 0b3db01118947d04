"""Launchers: who runs the jobs of a sweep, several at once.

`hydra/launcher=joblib`, `ray` and `submitit_slurm` (`conf/hydra/launcher/`) are classes of this
package. Hydra takes plugins of the package `hydra_plugins` alone, which need not be installed, so
they are put there. Where they are installed, launchers of the same names give way.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_PLUGINS = "hydra_plugins"
_OURS = f"{_PLUGINS}.kdrec"
_NAMES = ("joblib", "ray", "submitit_slurm")


def register() -> None:
    """Tells Hydra of the launchers."""
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415
    from hydra.core.plugins import Plugins  # noqa: PLC0415  (`--help` comes by here)

    from kdrec.cli.launch.cluster import RayLauncher  # noqa: PLC0415
    from kdrec.cli.launch.processes import JoblibLauncher  # noqa: PLC0415
    from kdrec.cli.launch.slurm import SlurmLauncher  # noqa: PLC0415

    plugins, ours = _plugins(), ModuleType(_OURS)
    for launcher in (JoblibLauncher, RayLauncher, SlurmLauncher):
        named = type(launcher.__name__, (launcher,), {"__module__": _OURS})
        setattr(ours, named.__name__, named)
        Plugins.instance().register(named)
    setattr(plugins, _OURS.rpartition(".")[2], ours)
    sys.modules[_OURS] = ours
    others: Any = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for name in _NAMES:  # Hydra would hold our files against their schemas
        others.pop(f"{name}.yaml", None)


def _plugins() -> ModuleType:
    """The package of Hydra's plugins, an empty one if none is installed."""
    try:
        return importlib.import_module(_PLUGINS)
    except ModuleNotFoundError:
        empty = ModuleType(_PLUGINS)
        empty.__path__ = []
        sys.modules[_PLUGINS] = empty
        return empty

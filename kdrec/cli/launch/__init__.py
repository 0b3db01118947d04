"""Launchers: who runs the jobs of a sweep, several at once.

`hydra/launcher=joblib` and `hydra/launcher=ray` (`conf/hydra/launcher/`) are classes of this
package. Hydra takes plugins of the package `hydra_plugins` alone, which need not be installed, so
they are put there.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

_PLUGINS = "hydra_plugins"
_OURS = f"{_PLUGINS}.kdrec"


def register() -> None:
    """Tells Hydra of the launchers."""
    from hydra.core.plugins import Plugins  # noqa: PLC0415  (`--help` comes by here)

    from kdrec.cli.launch.cluster import RayLauncher  # noqa: PLC0415
    from kdrec.cli.launch.processes import JoblibLauncher  # noqa: PLC0415

    plugins, ours = _plugins(), ModuleType(_OURS)
    for launcher in (JoblibLauncher, RayLauncher):
        named = type(launcher.__name__, (launcher,), {"__module__": _OURS})
        setattr(ours, named.__name__, named)
        Plugins.instance().register(named)
    setattr(plugins, _OURS.rpartition(".")[2], ours)
    sys.modules[_OURS] = ours


def _plugins() -> ModuleType:
    """The package of Hydra's plugins, an empty one if none is installed."""
    try:
        return importlib.import_module(_PLUGINS)
    except ModuleNotFoundError:
        empty = ModuleType(_PLUGINS)
        empty.__path__ = []
        sys.modules[_PLUGINS] = empty
        return empty

"""Hands a command line to Hydra.

What Hydra's own decorator does (multirun, sweepers, launchers, `--cfg`, `--info`, logging, run
directories) stays Hydra's: the command line is checked, its flags are put in front, and
`hydra.main` is called with it.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdrec import trust
from kdrec.cli import confdir, ensembles, launch, presets, search
from kdrec.cli.guard import heeding_signals, say
from kdrec.cli.job import BASIC_SWEEPER, Job
from kdrec.cli.line import Line
from kdrec.errors import KdrecError, UsageError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from kdrec.cli.overrides import Checked, Checker
    from kdrec.cli.watch import Watch


def forward(
    command: str,
    words: Sequence[str],
    *,
    dry_run: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    as_json: bool = False,
) -> None:
    """Checks the line, and runs Hydra with it.

    Args:
        command: Names the primary config and the stage.
        words: The rest of the command line: overrides and Hydra's flags, in any order.
        dry_run: Check, show the effective config, and stop.
        quiet: Show warnings and errors only.
        verbose: Show debug lines too.
        as_json: Print results (or the config, if `dry_run`) as JSON.

    Raises:
        KdrecError: Something the user can mend.
    """
    line = search.line_of(command, words)
    with trust.allowing(line.allows_code):
        _forward(command, line, dry_run=dry_run, quiet=quiet, verbose=verbose, as_json=as_json)


def _forward(
    command: str, line: Line, *, dry_run: bool, quiet: bool, verbose: bool, as_json: bool
) -> None:
    import hydra  # noqa: PLC0415  (a third of what `--help` may cost)

    sweep: contextlib.AbstractContextManager[Watch | None] = contextlib.nullcontext()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # its exceptions come to us
    os.environ["KDREC_JSON"] = "1" if as_json else "0"
    launch.register()
    if line.runs:
        with checking(command, line) as checker:
            checked = checker.check(line.overrides)
            if command == search.COMMAND:
                search.check_space(checker, checked)
            _check_launcher(line, checked)
            if dry_run:
                check_jobs(command, checker, checked)
                _show(checked, as_json=as_json)
                return
        from kdrec.cli import console  # noqa: PLC0415

        console.install(quiet=quiet)
        sweep = _watched(command, line, list(line.overrides), checked, quiet=quiet)
        line.overrides += _verbosity(line.overrides, quiet=quiet, verbose=verbose)
    else:
        if {"-m", "--multirun"} & set(line.flags):
            raise UsageError("-m is to run, and another flag is to show.", "Leave one of them out.")
        with checking(command, line, deep=False) as checker:
            replace(checker, shown=True).check(line.overrides)
    _register(line)
    job = Job(command, line.allows_code)
    main = hydra.main(version_base="1.3", config_path=str(confdir.conf_dir()), config_name=command)
    before = sys.argv
    try:
        with heeding_signals(), sweep as watch:
            sys.argv = [before[0], *line.flags, *line.overrides]
            main(job)()
    finally:
        sys.argv = before
    if watch is not None:
        watch.check()
    if job.error is not None:
        raise job.error


def _sweeps(line: Line, hydra: DictConfig) -> bool:
    """Whether the line asks for a sweep, by itself or by its experiment."""
    from hydra.types import RunMode  # noqa: PLC0415
    from omegaconf import OmegaConf  # noqa: PLC0415

    return line.multirun or bool(OmegaConf.select(hydra, "mode") == RunMode.MULTIRUN)


def _check_launcher(line: Line, checked: Checked) -> None:
    """Refuses a launcher that Hydra would pass over."""
    from kdrec.cli.composed import hydra_part  # noqa: PLC0415

    if _sweeps(line, hydra_part(checked.config)):
        return
    for word in line.overrides:
        if word.lstrip("+").startswith("hydra/launcher="):
            raise UsageError(f"{word} is for sweeps, and this is one run.", "Add -m.")


@contextlib.contextmanager
def _watched(
    command: str, line: Line, given: list[str], checked: Checked, *, quiet: bool
) -> Iterator[Watch | None]:
    """The watch over a sweep, in a folder of its own; None over a single run.

    Args:
        command: Of the jobs.
        line: Gets the folder as an override.
        given: The overrides as they were typed.
        checked: What they came to.
        quiet: Tell failures only.
    """
    from kdrec.cli.composed import hydra_part  # noqa: PLC0415
    from kdrec.cli.watch import Watch, claimed  # noqa: PLC0415

    hydra = hydra_part(checked.config)
    if not _sweeps(line, hydra):
        yield None
        return
    known = hydra.sweeper._target_ == BASIC_SWEEPER
    with claimed(Path(hydra.sweep.dir)) as folder:
        escaped = str(folder).replace("'", "\\'")
        line.overrides.append(f"hydra.sweep.dir='{escaped}'")
        with Watch(folder, command, given, checked.jobs if known else None, quiet=quiet) as watch:
            yield watch


def check_jobs(command: str, checker: Checker, checked: Checked) -> None:
    """Asks the stage of every job whether it would refuse it before it makes anything.

    Jobs that differ by their seeds alone are one.

    Raises:
        KdrecError: What the stage says, with the job's overrides where there are several.
    """
    check = getattr(importlib.import_module(f"kdrec.stages.{command}"), "check", None)
    if check is None:
        return
    alike: dict[tuple[str, ...], list[str]] = {}
    for job in checked.jobs:
        own = (word for word in job if not word.partition("=")[0].endswith("seed"))
        alike.setdefault(tuple(own), job)
    for words, job in alike.items():
        try:
            check(checker.composed(job))
        except KdrecError as error:
            if len(alike) > 1:
                what = f"{' '.join(words)}: {error.what}"
                raise KdrecError(what, error.hint, exit_code=error.exit_code) from error
            raise


@contextlib.contextmanager
def checking(command: str, line: Line, *, deep: bool = True) -> Iterator[Checker]:
    """The checker for a command line, over the config folders that Hydra will use."""
    from hydra._internal.hydra import Hydra  # noqa: PLC0415
    from hydra._internal.utils import create_config_search_path  # noqa: PLC0415
    from hydra.core.config_search_path import SearchPathQuery  # noqa: PLC0415
    from hydra.core.global_hydra import GlobalHydra  # noqa: PLC0415

    from kdrec.cli import trusted  # noqa: PLC0415
    from kdrec.cli.overrides import Checker  # noqa: PLC0415

    main, *more = _folders(line)
    _register(line)
    path = create_config_search_path(str(main))
    for folder in more:
        if not folder.is_dir():
            raise UsageError(f"--config-dir {folder} is no folder.", "Give an existing one.")
        path.prepend("command-line", f"file://{folder}", anchor=SearchPathQuery(provider="schema"))
    hydra = Hydra.create_main_hydra2(task_name=command, config_search_path=path)
    try:
        name = line.values.get("--config-name", command)
        trusted.check_search_path(hydra.config_loader, name, line.overrides)
        yield Checker(
            hydra.config_loader, name, f"kdrec {command}", multirun=line.multirun, deep=deep
        )
    finally:
        GlobalHydra.instance().clear()


def _folders(line: Line) -> list[Path]:
    return confdir.user_folders(line.values.get("--config-path"), line.values.get("--config-dir"))


def _register(line: Line) -> None:
    folders = _folders(line)
    confdir.register(folders)
    chosen = [one for name in presets.named(line.overrides)
              for one in presets.choices(name, folders)]  # fmt: skip
    ensembles.store(ensembles.named([*line.overrides, *chosen]), folders)


def _verbosity(overrides: Sequence[str], *, quiet: bool, verbose: bool) -> list[str]:
    """What `-q` and `-v` are to Hydra; a logging config of the user's own is left alone."""
    given = {override.partition("=")[0] for override in overrides}
    silenced = ("job_logging", "hydra_logging") if quiet else ()
    found = [
        f"hydra.{name}.handlers.console.level=WARNING"
        for name in silenced
        if f"hydra/{name}" not in given
    ]
    return [*found, "hydra.verbose=kdrec"] if verbose and "hydra.verbose" not in given else found


def _show(checked: Checked, *, as_json: bool) -> None:
    """Prints the config of the first job to stdout, and which jobs there are to stderr."""
    from omegaconf import OmegaConf  # noqa: PLC0415

    from kdrec.cli.composed import job_part  # noqa: PLC0415

    job = job_part(checked.config)
    if as_json:
        sys.stdout.write(json.dumps(OmegaConf.to_container(job, resolve=True), indent=2) + "\n")
    else:
        sys.stdout.write(OmegaConf.to_yaml(job, resolve=True))
    if len(checked.jobs) > 1:
        say(f"{len(checked.jobs)} jobs (the config above is the first one's):")
        for number, overrides in enumerate(checked.jobs):
            say(f"  {number}: {' '.join(overrides)}")
    say("Nothing was run (--dry-run).")

"""The commands."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from kdrec import __version__, hangup
from kdrec.cli import confdir, listing, manual
from kdrec.cli.guard import guard, say
from kdrec.errors import UsageError

FORWARDED = tuple(manual.PAGES)
"""The commands that take overrides."""

app = typer.Typer(
    name="kdrec",
    help=manual.PROGRAM,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]


def _version(value: bool) -> None:  # noqa: FBT001  (Typer's form of a callback)
    if value:
        typer.echo(f"kdrec {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Holds the options before a command; the text of `--help` is the manual's."""


def _forwarder(command: str) -> Callable[..., None]:
    """The function of one of the commands that take overrides."""

    def run(
        ctx: typer.Context,
        *,
        as_json: Json = False,
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")
        ] = False,
        verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show more.")] = False,
        dry_run: Annotated[
            bool,
            typer.Option("--dry-run", help="Check everything, show the config, run nothing."),
        ] = False,
        debug: Debug = False,
    ) -> None:
        with guard(debug=debug):
            from kdrec.cli.forward import forward  # noqa: PLC0415

            forward(
                command,
                ctx.args,
                dry_run=dry_run,
                quiet=quiet,
                verbose=verbose,
                as_json=as_json,
            )

    return run


for _command, _page in manual.PAGES.items():
    app.command(
        _command,
        help=_page.text(),
        options_metavar="[OPTIONS] [KEY=VALUE]...",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(_forwarder(_command))


@app.command(help=manual.REPORT)
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="experiment=NAME|RUN",
            help="A preset; only these run folders. [default: all]",
            show_default=False,
        ),
    ] = None,
    *,
    experiment: Annotated[
        str | None, typer.Option(help="The tables and figure of this preset.")
    ] = None,
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", "-cd", help="Your own config files, too.")
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this data set.")] = None,
    cutoff: Annotated[
        int | None, typer.Option(min=1, help="Length of the lists. [default: 10]")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="KDREC_OUTPUT_DIR", help="Where the runs lie.")
    ] = Path("outputs"),
    out: Annotated[
        Path | None, typer.Option(help="Where to write. [default: OUTPUT_DIR/reports/DATE/TIME]")
    ] = None,
    as_json: Json = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
    n_boot: Annotated[int, typer.Option(min=1, help="Bootstrap samples.")] = 1000,
    debug: Debug = False,
) -> None:
    """Prints and writes the tables of the finished runs."""
    with guard(debug=debug):
        from kdrec.cli.reported import Reported  # noqa: PLC0415  (imports omegaconf)

        chosen = Reported.of(runs or [], experiment, confdir.user_folders(None, _text(config_dir)))
        made = chosen.build(
            output_dir, dataset=dataset, cutoff=cutoff, out=out, seed=seed, n_boot=n_boot
        )
        if as_json:
            hangup.tell(json.dumps(made.as_json(), indent=2) + "\n")
        else:
            from kdrec.report.render import console  # noqa: PLC0415  (imports rich)

            made.show(console())
        for path in made.write():
            say(f"wrote {path}")


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


@app.command("list", help=manual.LIST)
def show(
    *,
    kind: Annotated[
        str | None, typer.Argument(metavar=f"[{'|'.join(listing.KINDS)}]", show_default=False)
    ] = None,
    config_dir: Annotated[
        Path | None, typer.Option("--config-dir", "-cd", help="Your own config files, too.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Shows what there is to choose from."""
    with guard(debug=debug):
        if kind is not None and kind not in listing.KINDS:
            from kdrec.cli.values import did_you_mean  # noqa: PLC0415

            raise UsageError(
                f"There is no list of {kind!r}.",
                did_you_mean(kind, list(listing.KINDS), "There are"),
            )
        folders = confdir.user_folders(None, _text(config_dir))
        found = {
            name: listing.entries(name, folders)
            for name in ([kind] if kind is not None else listing.KINDS)
        }
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        if as_json:
            typer.echo(json.dumps(found[kind] if kind is not None else found, indent=2))
        elif kind is not None:
            typer.echo(listing.text(kind, found[kind], width=width))
        else:
            blocks = [
                f"{name}\n{listing.text(name, rows, indent='  ', width=width)}"
                for name, rows in found.items()
            ]
            typer.echo("\n\n".join(blocks))

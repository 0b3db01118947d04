"""The program: `kdrec`, or `python -m kdrec`."""

from __future__ import annotations

import sys

from kdrec.cli.guard import guard


def main() -> None:
    """Runs one command line."""
    with guard(debug="--debug" in sys.argv):
        from kdrec.cli import completion  # noqa: PLC0415  (an interrupt while importing is no traceback)

        if completion.wanted(sys.argv[1:]):
            completion.run(sys.argv[1:])
            return
        from kdrec.cli.app import app  # noqa: PLC0415

        app(prog_name="kdrec")


if __name__ == "__main__":
    main()

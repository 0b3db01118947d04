"""The program in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from kdrec.cli.app import app


def kd(*words: str, status: int = 0) -> Result:
    """Runs `kdrec` with these words and holds its exit status against the expected one."""
    result = CliRunner().invoke(app, words, prog_name="kdrec")
    assert result.exit_code == status, result.stderr + repr(result.exception)
    return result

"""The command line: Typer in front, Hydra behind, and what checks a line before it runs."""

"""From finished runs to tables."""

from kdrec.report.report import Report, build

__all__ = ["Report", "build"]

"""From finished runs to tables."""

from kdrec.report.experiment import build_experiment
from kdrec.report.report import Report, build

__all__ = ["Report", "build", "build_experiment"]

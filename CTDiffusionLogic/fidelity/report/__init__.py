"""The laboratory's report: ``report.json`` for programs, ``report.html`` for people, and ``plots/*.png``."""

from CTDiffusionLogic.fidelity.report.writing import REPORT_FILES, write_report

__all__ = ["REPORT_FILES", "write_report"]

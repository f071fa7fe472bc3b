"""Write a report: all of its files, or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from CTDiffusionLogic.atomic import atomic_folder
from CTDiffusionLogic.fidelity.findings import Report
from CTDiffusionLogic.fidelity.report.figures import plot_overview, plot_section
from CTDiffusionLogic.fidelity.report.galleries import VolumePictures
from CTDiffusionLogic.fidelity.report.html_report import to_html
from CTDiffusionLogic.fidelity.report.json_report import to_json

#: What a report's folder has.
REPORT_FILES = ("report.html", "report.json", "plots")


def write_report(report: Report, pictures: Mapping[str, VolumePictures], folder: Path) -> list[Path]:
    """Write the report into ``folder``, which is new or empty; it appears whole or not at all.

    Args:
        report: What was found.
        pictures: Of volumes by id, for the galleries.
        folder: Where to.

    Returns:
        The files and folders written.

    Raises:
        OutputError: If ``folder`` is not empty or cannot be written.
    """
    overview = plot_overview(report.sections)
    plots = {section.key: plot_section(section) for section in report.sections}
    page = to_html(report, pictures=pictures, plots=plots, overview=overview)
    with atomic_folder(folder) as temporary:
        (temporary / "plots").mkdir()
        for plot in [*([overview] if overview else []), *(p for group in plots.values() for p in group)]:
            (temporary / "plots" / f"{plot.name}.png").write_bytes(plot.png)
        (temporary / "report.json").write_text(to_json(report), encoding="utf-8")
        (temporary / "report.html").write_text(page, encoding="utf-8")
    return [folder / name for name in REPORT_FILES]

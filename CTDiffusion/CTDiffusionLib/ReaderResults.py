"""What a reader study says, as a table in the scene and in words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer.util
import vtk
from slicer.i18n import tr as _

from .Provenance import PREFIX
from .SlicerHost import nodesByClass, sceneOrDefault

#: Which study a table belongs to.
RESULTS_ATTRIBUTE = PREFIX + "ReaderResults"


def hasStudy(path: Path) -> bool:
    """Whether there is a study at the path of a results file: the file itself, or its key."""
    from CTDiffusionLogic.fidelity.reader_files import key_path

    return path.suffix.lower() == ".csv" and (path.exists() or key_path(path).exists())


def resultsTable(study: Any, *, scene: Any = None) -> Any:
    """Return the table of a study with one row for each reader; made, or filled anew.

    :param study: a reader_files.StudyFile.
    :param scene: a vtkMRMLScene; by default the application's.
    :return: a vtkMRMLTableNode. What cannot be told is not a number.
    """
    from CTDiffusionLogic.fidelity.reader_statistics import reader_figures

    scene, identity = sceneOrDefault(scene), study.plan.study_id
    figures = reader_figures(study.plan, study.answers)
    tables = [n for n in nodesByClass(scene, "vtkMRMLTableNode") if n.GetAttribute(RESULTS_ATTRIBUTE) == identity]
    if tables:
        table = tables[0]
    else:
        name = scene.GenerateUniqueName(_("Reader study {name}").format(name=study.path.stem))
        table = scene.AddNewNodeByClass("vtkMRMLTableNode", name)
        table.SetAttribute(RESULTS_ATTRIBUTE, identity)
    with slicer.util.NodeModify(table):
        table.RemoveAllColumns()
        readers = vtk.vtkStringArray()
        readers.SetName("reader")
        for one in figures:
            readers.InsertNextValue(one.reader)
        table.AddColumn(readers)
        for title, valueOf in _COLUMNS.items():
            column = vtk.vtkDoubleArray()
            column.SetName(title)
            for one in figures:
                value = valueOf(one)
                column.InsertNextValue(float("nan") if value is None else float(value))
            table.AddColumn(column)
    return table


def resultsText(study: Any) -> str:
    """Return the results in words, a paragraph for each reader."""
    from CTDiffusionLogic.fidelity.reader_statistics import interval_text, reader_figures, summary

    figures = reader_figures(study.plan, study.answers)
    lines = []
    for one in figures:
        lines.append(summary(one))
        lines.append(
            _("d' {dPrime}, AUC {auc}, median {seconds:.1f} s").format(
                dPrime=interval_text(one.d_prime), auc=interval_text(one.auc), seconds=one.median_seconds
            )
        )
    notes = dict.fromkeys(note for one in figures for note in one.notes)
    return "\n".join([*lines, *notes]) or _("There are no answers yet.")


def _of(name: str, part: str) -> Callable[[Any], Any]:
    def value(figures: Any) -> Any:
        interval = getattr(figures, name)
        return None if interval is None else getattr(interval, part)

    return value


#: Columns of numbers.
_COLUMNS: dict[str, Callable[[Any], Any]] = {
    "answered": lambda one: one.answered,
    "correct": lambda one: one.correct,
    **{
        f"{title}{suffix}": _of(name, part)
        for name, title in (("accuracy", "accuracy"), ("d_prime", "d'"), ("auc", "AUC"))
        for part, suffix in (("value", ""), ("low", " low"), ("high", " high"))
    },
    "p (chance)": lambda one: one.p_value,
    "median seconds": lambda one: one.median_seconds,
}

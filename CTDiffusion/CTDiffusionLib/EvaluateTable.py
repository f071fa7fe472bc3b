"""Key figures in the panel: a narrow table of words, with a line above the figures of each section."""

from __future__ import annotations

from typing import Any

import qt
from slicer.i18n import tr as _

from .EvaluateReport import EvaluateReport, KeyFigure


def fill(table: Any, report: EvaluateReport) -> None:
    """Show the figures of a report.

    :param table: a QTableWidget.
    """
    titles = [_("Figure"), _("Synthetic"), _("Real"), _("Reads as")]
    table.clear()
    table.clearSpans()
    table.setRowCount(0)
    table.setColumnCount(len(titles))
    table.setHorizontalHeaderLabels(titles)
    section = None
    for figure in report.figures:
        if figure.section != section:
            section = figure.section
            _addRow(table, [section], section, isHeading=True)
        _addRow(table, _texts(figure), _toolTip(figure))
    header = table.horizontalHeader()
    header.setSectionResizeMode(0, qt.QHeaderView.Stretch)
    for column in range(1, len(titles)):
        header.setSectionResizeMode(column, qt.QHeaderView.ResizeToContents)
    table.resizeRowsToContents()


def _texts(figure: KeyFigure) -> list[str]:
    name = f"{figure.title} [{figure.extractor}]" if figure.extractor else figure.title
    return [name, _twoLines(figure.synthetic.text(figure.unit)), _twoLines(figure.floor.text(figure.unit)),
            figure.standingText]  # fmt: skip


def _twoLines(text: str) -> str:
    """The interval below the number: the panel is narrow."""
    return text.replace(" (", "\n(", 1)


def _toolTip(figure: KeyFigure) -> str:
    return "\n".join(text for text in (figure.title, figure.meaning) if text)


def _addRow(table: Any, texts: list[str], toolTip: str, *, isHeading: bool = False) -> None:
    row = table.rowCount
    table.setRowCount(row + 1)
    for column, text in enumerate(texts):
        item = qt.QTableWidgetItem(text)
        item.setToolTip(toolTip)
        item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
        if isHeading:
            font = item.font()
            font.setBold(True)
            item.setFont(font)
        table.setItem(row, column, item)
    if isHeading:
        table.setSpan(row, 0, 1, table.columnCount)

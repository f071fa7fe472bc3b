"""Slicer's light and dark colours for the pictures of the panel."""

from __future__ import annotations

from PySide6 import QtGui, QtWidgets

_Role = QtGui.QPalette.ColorRole
#: Slicer's own colours (qSlicerStyle of 5.x), as (role, colour, colour of what is disabled).
COLOURS: dict[str, tuple[tuple[QtGui.QPalette.ColorRole, str, str], ...]] = {
    "light": (
        (_Role.Window, "#ffffff", "#ffffff"),
        (_Role.WindowText, "#000000", "#bebebe"),
        (_Role.Base, "#ffffff", "#ffffff"),
        (_Role.AlternateBase, "#e4e4fe", "#e4e4fe"),
        (_Role.Text, "#000000", "#bebebe"),
        (_Role.PlaceholderText, "#808080", "#bebebe"),
        (_Role.Button, "#fcfcfc", "#fcfcfc"),
        (_Role.ButtonText, "#000000", "#bebebe"),
        (_Role.Light, "#c8c8c8", "#c8c8c8"),
        (_Role.Midlight, "#e6e6e6", "#e6e6e6"),
        (_Role.Dark, "#aaaaaa", "#aaaaaa"),
        (_Role.Mid, "#c8c8c8", "#c8c8c8"),
        (_Role.Shadow, "#5a5a5a", "#5a5a5a"),
        (_Role.Highlight, "#308cc6", "#919191"),
        (_Role.HighlightedText, "#ffffff", "#ffffff"),
    ),
    "dark": (
        (_Role.Window, "#323232", "#323232"),
        (_Role.WindowText, "#ffffff", "#6d6d6d"),
        (_Role.Base, "#1e1e1e", "#1e1e1e"),
        (_Role.AlternateBase, "#323232", "#323232"),
        (_Role.Text, "#ffffff", "#6d6d6d"),
        (_Role.PlaceholderText, "#a0a0a0", "#6d6d6d"),
        (_Role.Button, "#323232", "#323232"),
        (_Role.ButtonText, "#ffffff", "#b4b4b4"),
        (_Role.Light, "#828284", "#828284"),
        (_Role.Midlight, "#5a5a5b", "#5a5a5b"),
        (_Role.Dark, "#232323", "#232323"),
        (_Role.Mid, "#2b2b2b", "#2b2b2b"),
        (_Role.Shadow, "#141414", "#141414"),
        (_Role.Highlight, "#3ca4ff", "#505050"),
        (_Role.HighlightedText, "#ffffff", "#6d6d6d"),
    ),
}
THEMES = tuple(COLOURS)


def setTheme(name: str) -> None:
    """Give the application Qt's Fusion style, which Slicer's builds on, in Slicer's light or dark colours."""
    palette = QtGui.QPalette()
    for role, colour, disabled in COLOURS[name]:
        palette.setColor(role, QtGui.QColor(colour))
        palette.setColor(QtGui.QPalette.ColorGroup.Disabled, role, QtGui.QColor(disabled))
    QtWidgets.QApplication.setStyle("Fusion")
    QtWidgets.QApplication.setPalette(palette)

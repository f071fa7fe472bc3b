"""What a scripted module imports and slicer-core lacks, put in place for the time of a host."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6 import QtCore

from . import ctk_widgets, dialogs, parameter_wrapper, pythonqt, scripted_module, slicer_modules, ui_loader


def putInPlace(
    modulePath: Path, settingsFile: Path, *, setSlicer: Callable[[str, Any], None]
) -> list[Callable[[], None]]:
    """Put qt, ctk and what slicer-core lacks in place; the module's own code is imported anew.

    Args:
        modulePath: The folder with the module files.
        settingsFile: Of qt.QSettings, where no other file is named.
        setSlicer: Sets an attribute of slicer for the time of the host.

    Returns:
        What undoes it, to be called from the last to the first.
    """
    undo: list[Callable[[], None]] = []
    RealSettings = pythonqt.facade(QtCore.QSettings)

    class QSettings(RealSettings):
        """The host's settings, unless a file is named."""

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*(arguments or (str(settingsFile), QtCore.QSettings.Format.IniFormat)))

    # What a host has imported refers to that host's stand-ins: aside with it, and away at the end.
    own = [path.stem for path in modulePath.glob("*.py")] + [f"{modulePath.name}Lib"]
    aside = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] in own}

    def restore() -> None:
        for name in [name for name in sys.modules if name.split(".")[0] in own]:
            del sys.modules[name]
        sys.modules.update(aside)

    undo.append(restore)
    made = {
        "qt": pythonqt.qtModule({**dialogs.OVERRIDES, "QSettings": QSettings, "QUiLoader": ui_loader.QUiLoader}),
        "ctk": ctk_widgets.ctkModule(),
        "slicer.parameterNodeWrapper": parameter_wrapper.newModule(),
        **scripted_module.newModules(),
        **slicer_modules.newModules(),
    }
    for name, module in made.items():
        previous = sys.modules.get(name)
        undo.append(
            lambda name=name, previous=previous: (
                sys.modules.__setitem__(name, previous) if previous is not None else sys.modules.pop(name, None)
            )
        )
        sys.modules[name] = module
        if name.startswith("slicer."):
            setSlicer(name.partition(".")[2], module)
    previousPath = list(sys.path)
    undo.append(lambda: sys.path.__setitem__(slice(None), previousPath))
    sys.path.insert(0, str(modulePath))
    return undo

"""A small host in which the real module classes run under PySide6, without the Slicer application.

It stands in only for what has no package: PythonQt's naming over Qt, the ctk and qMRML widgets, the application with
its modules, the scripted module classes and the parameter node wrapper. The scene, its nodes and the module logics
are slicer-core's. See module_host.ModuleHost.
"""

try:
    from PySide6 import QtWidgets as _QtWidgets  # noqa: F401
except ImportError as _error:  # of a library of the system, where PySide6 itself is installed
    raise ImportError(
        f"{_error}. Qt needs: apt-get install libegl1 libgl1 libxkbcommon0 libdbus-1-3 libfontconfig1 libglib2.0-0"
    ) from _error

"""A small host in which the real module classes run under PySide6, without the Slicer application.

It stands in only for what has no package: PythonQt's naming over Qt, the ctk and qMRML widgets, the application with
its modules, the scripted module classes and the parameter node wrapper. The scene, its nodes and the module logics
are slicer-core's. See module_host.ModuleHost.
"""

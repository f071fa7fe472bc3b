# Slicer writes <Extension>Config.cmake here, for other extensions; nothing depends on it in this test.

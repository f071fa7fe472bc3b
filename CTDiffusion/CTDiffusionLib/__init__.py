"""What the CTDiffusion module does in the MRML scene: volumes, provenance, display, layouts, labels.

Free of Qt and of torch: it needs slicer, vtk and numpy only, and works in Slicer as well as under slicer-core.
"""

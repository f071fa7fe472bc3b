"""CTDiffusionLogic: train slab diffusion models on CT scans and generate synthetic CT volumes.

A plain Python library: it knows neither Slicer nor Qt. Importing the package itself is cheap
(no torch); heavy libraries are imported by the modules that compute with them.
"""

__version__ = "0.1.0"

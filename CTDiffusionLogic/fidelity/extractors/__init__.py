"""Feature extractors: what turns images into the vectors that Fréchet and kernel distances compare."""

from CTDiffusionLogic.fidelity.extractors.base import EXTRACTORS, Extractor, get_extractor

__all__ = ["EXTRACTORS", "Extractor", "get_extractor"]

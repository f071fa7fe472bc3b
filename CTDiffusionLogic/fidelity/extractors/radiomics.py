"""Radiomic features as the Image Biomarker Standardisation Initiative defines them, computed by the library mirp.

Zwanenburg et al. 2020, "The image biomarker standardization initiative". No weights, so nothing was learnt from
anybody's scans: a second opinion beside the networks. Of each image: first-order statistics, grey level
co-occurrence, run length and neighbourhood difference features, in 2D, of all pixels above -950 HU (body and lung,
not the air around), in bins of 25 HU. Features come in very different units, and a Fréchet distance would be that of
the largest; so each becomes its inverse hyperbolic sine (nearly linear below 1, a logarithm above), statistics in
units of 100 HU before. One that is not defined for an image is 0.

mirp is not installed by default (``pip install "ctdiffusion[radiomics]"``), for it brings ITK and pandas along. It
takes some tenths of a second per image: a matter of minutes to hours, where networks take seconds.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import ResourceError
from CTDiffusionLogic.fidelity.extractors.base import checked_images

NAME = "radiomics"
#: Pixels above this are looked at.
AIR_HU = -950.0
HU_WINDOW = (-1000.0, 1000.0)
SETTINGS: dict[str, Any] = {
    "by_slice": True,
    "base_feature_families": ["statistics", "glcm", "glrlm", "ngtdm"],
    "base_discretisation_method": "fixed_bin_size",
    "base_discretisation_bin_width": 25.0,
    "resegmentation_intensity_range": [-1000.0, 1000.0],
}
_FAMILIES = ("stat_", "cm_", "rlm_", "ngt_")
_STATISTICS_UNIT_HU = 100.0


@dataclass(frozen=True, eq=False)
class Radiomics:
    """The extractor; see :class:`CTDiffusionLogic.fidelity.extractors.base.Extractor`.

    Args:
        names: Of the features, in their order.
        sha256: Of settings, names and mirp's version, for there are no weights.
    """

    names: tuple[str, ...]
    sha256: str
    name: str = NAME

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return len(self.names)

    def features(self, images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
        """As the interface says. Texture is measured between neighbouring pixels, whatever ``pixel_mm`` is."""
        images = checked_images(images, pixel_mm)
        rows = [[measured.get(name, 0.0) for name in self.names] for measured in map(_measure, images)]
        return np.array(rows, np.float32).reshape(len(images), self.dimensions)


def load(path: Path | None = None, *, allow_download: bool = False, device: str = "cpu") -> Radiomics:
    """Build the extractor.

    Raises:
        ResourceError: If mirp is missing.
    """
    del path, allow_download, device  # no weights, no network
    try:
        number = version("mirp")
        import mirp  # noqa: F401
    except (ImportError, PackageNotFoundError) as error:
        raise ResourceError(
            f"The extractor radiomics needs mirp, which cannot be imported ({error}).",
            remedy='Run `python -m pip install "ctdiffusion[radiomics]"`, or use the extractor ctfeatures.',
        ) from error
    rows, columns = np.mgrid[:32, :32]
    sample = np.where(np.hypot(rows - 16, columns - 16) < 12, 10.0 * rows + 7.0 * (columns % 5), -1000.0)
    names = tuple(sorted(_measure(sample.astype(np.float32))))
    facts = json.dumps([number, SETTINGS, AIR_HU, _STATISTICS_UNIT_HU, names], sort_keys=True)
    return Radiomics(names, hashlib.sha256(facts.encode()).hexdigest())


def _measure(image: NDArray[np.float32]) -> dict[str, float]:
    """Finite features of one image (H, W) by name, on comparable scales."""
    import mirp

    cut = np.clip(image, *HU_WINDOW).astype(np.float64)
    mask = cut > AIR_HU
    if not mask.any():
        mask[:] = True
    logging.getLogger("mirp").setLevel(logging.WARNING)
    tables = mirp.extract_features(
        image=cut[None],
        mask=mask[None].astype(np.uint8),
        image_modality="ct",
        stack_images="no",
        stack_masks="no",
        **SETTINGS,
    )
    found = {}
    for name, value in tables[0].iloc[0].items():
        if str(name).startswith(_FAMILIES):
            unit = _STATISTICS_UNIT_HU if str(name).startswith("stat_") else 1.0
            number = float(np.arcsinh(float(value) / unit))
            found[str(name)] = number if np.isfinite(number) else 0.0
    return found

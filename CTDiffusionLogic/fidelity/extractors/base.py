"""The one interface of all feature extractors, and how one is found by name.

A distance between features means something only beside other distances of the same extractor: therefore each
carries a name and the SHA-256 of what computes its features, and figures of different extractors are never mixed.

    extractor = get_extractor()                                # "ctfeatures": bundled, needs no download
    extractor = get_extractor("inception:weights.pth")         # a weights file of your own
    features = extractor.features(images_hu, pixel_mm=1.0)     # (n, H, W) -> (n, D)
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import UsageError

#: Names that :func:`get_extractor` knows, the default first, and what each is.
EXTRACTORS = {
    "ctfeatures": "small CT network of this project, bundled; the default",
    "inception": "InceptionV3 of the usual FID; needs its weights file",
    "radimagenet": "RadImageNet ResNet-50, as in MAISI's 2.5D protocol; needs its weights file",
    "radiomics": "IBSI radiomic features of the library mirp; needs no weights",
}
DEFAULT_EXTRACTOR = "ctfeatures"


class Extractor(Protocol):
    """Turns CT images into feature vectors. Equal images give equal features on the same machine (CPU)."""

    @property
    def name(self) -> str:
        """Short name, such as "ctfeatures"."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights (of the settings, where there are no weights), 64 hexadecimal digits."""

    @property
    def dimensions(self) -> int:
        """Length D of a feature vector."""

    def features(self, images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
        """Compute features.

        Args:
            images: (n, H, W), HU as they are (neither clipped nor scaled); square pixels.
            pixel_mm: Edge of a pixel in mm.

        Returns:
            (n, D), one finite vector per image; (0, D) for no images.

        Raises:
            ValueError: If ``images`` is not (n, H, W) or not finite, or ``pixel_mm`` is not positive.
        """


def get_extractor(
    name_or_file: str | Path = DEFAULT_EXTRACTOR, *, allow_download: bool = False, device: str = "cpu"
) -> Extractor:
    """Build an extractor.

    Args:
        name_or_file: A name in EXTRACTORS; a name, a colon and a weights file ("inception:/data/weights.pth"); or a
            file made by ``ctdiffusion train-features``.
        allow_download: Fetch published weights that are not here. Nothing is ever fetched without it.
        device: Where networks run. Only "cpu" gives the same figures on every run.

    Raises:
        UsageError: If there is no extractor of that name.
        ModelFileError: If the weights are broken or of another network.
        ResourceError: If weights or a library are missing; says where they come from and where to put them.
    """
    text = str(name_or_file)
    name, _, file = text.partition(":")
    if name not in EXTRACTORS:
        if Path(text).suffix != ".safetensors":
            raise UsageError(
                f"There is no feature extractor {text!r}.",
                remedy=f"Name one of {', '.join(EXTRACTORS)}, or a file of `ctdiffusion train-features`.",
            )
        name, file = "ctfeatures", text
    if file and name == "radiomics":
        raise UsageError(f"The extractor radiomics has no weights, got {text!r}.", remedy="Leave the file out.")
    module = import_module(f"CTDiffusionLogic.fidelity.extractors.{name}")
    return module.load(Path(file) if file else None, allow_download=allow_download, device=device)


def checked_images(images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
    """Return ``images`` as float32 if an extractor can take them.

    Raises:
        ValueError: As :meth:`Extractor.features` says.
    """
    images = np.asarray(images, dtype=np.float32)
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise ValueError(f"images must be of shape (n, H, W), got {images.shape}")
    if not np.isfinite(images).all():
        raise ValueError("images have values that are not finite numbers")
    if not pixel_mm > 0 or not np.isfinite(pixel_mm):
        raise ValueError(f"pixel_mm must be positive, got {pixel_mm}")
    return images

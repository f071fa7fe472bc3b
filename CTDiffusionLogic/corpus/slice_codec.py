"""CT slices as small files that any viewer opens: JPEG 2000, reversible, by Pillow (OpenJPEG).

15 torso scans, 1,307 slices of 256 x 256 (171 MB as int16), make 57 MB exactly, 42 MB in steps of 3 HU and 36 MB in
steps of 5 HU (extrapolated from a slice of each). The air around the body keeps its noise: a model learns it, too.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from CTDiffusionLogic.errors import ResourceError
from CTDiffusionLogic.volume import AIR_HU, MAX_HU

#: Pixels of one image: what is held in memory at a time, and far below what Pillow takes for an attack.
BLOCK_PIXELS = 2**21


def block_of(size: int) -> int:
    """How many slices of ``size`` x ``size`` pixels go into one image."""
    return max(1, BLOCK_PIXELS // size**2)


def encode_slices(hu: NDArray[np.int16], *, hu_step: int) -> bytes:
    """Slices as one image, one below the other, each in a tile of its own.

    Args:
        hu: int16 (n, size, size) within [-1024, 3071].
        hu_step: HU are rounded to multiples of this above -1024, halves to even ones: so the mean stays. 1 changes
            nothing.
    """
    from PIL import Image

    size = hu.shape[1]
    levels = np.rint((hu.astype(np.float32) - AIR_HU) / hu_step)
    image = Image.fromarray(levels.astype(np.uint16).reshape(-1, size))
    stream = io.BytesIO()
    image.save(stream, "JPEG2000", tile_size=(size, size), irreversible=False)
    return stream.getvalue()


def decode_slices(data: bytes, shape: tuple[int, int, int], *, hu_step: int) -> NDArray[np.int16]:
    """Inverse of :func:`encode_slices`.

    Args:
        data: What it returned.
        shape: Of the slices; no memory is taken for an image of another size.
        hu_step: As it was.

    Raises:
        ValueError: If it is not such an image.
    """
    from PIL import Image

    count, rows, columns = shape
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG2000"]) as image:
            if image.size != (columns, count * rows) or not image.mode.startswith("I"):
                raise ValueError(f"it is an image of {image.size[0]} x {image.size[1]} pixels of kind {image.mode}")
            levels = np.asarray(image).astype(np.int32)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's kinds
        raise ValueError(str(error)) from error
    return np.minimum(levels * hu_step + AIR_HU, MAX_HU).astype(np.int16).reshape(shape)


def require_codec() -> None:
    """Return if this machine can do the above.

    Raises:
        ResourceError: If Pillow, or its JPEG 2000, is missing.
    """
    try:
        from PIL import features
    except ModuleNotFoundError as error:
        raise ResourceError("Pillow is not installed.", remedy="Install it: python -m pip install pillow.") from error
    if not features.check("jpg_2000"):
        raise ResourceError(
            "This Pillow has no JPEG 2000, which packs are made of.",
            remedy="Install Pillow's own wheel: python -m pip install --force-reinstall pillow.",
        )

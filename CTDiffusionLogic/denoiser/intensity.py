"""Hounsfield units to network intensities and back: piecewise linear, so that no HU is lost.

CT spans 4,000 HU, but soft tissue, where the eye looks first, lives within 200 of them. A plain
linear window would give it a twentieth of the network's range; the knots below give it half,
and leave enough for lung and bone. The mapping is invertible: HU stay calibrated.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from CTDiffusionLogic.volume import AIR_HU, MAX_HU

#: (HU, intensity) pairs: air, fat's lower edge, enhanced vessels, dense bone, metal.
KNOTS: tuple[tuple[float, float], ...] = (
    (float(AIR_HU), -1.0),
    (-200.0, -0.4),
    (250.0, 0.5),
    (1250.0, 0.9),
    (float(MAX_HU), 1.0),
)

_HU = np.array([k[0] for k in KNOTS])
_INTENSITY = np.array([k[1] for k in KNOTS])
# Every integer HU has its intensity ready: a table look-up is several times faster than np.interp.
_TABLE = np.interp(np.arange(AIR_HU, MAX_HU + 1), _HU, _INTENSITY).astype(np.float32)


def hu_to_intensity(hu: NDArray[np.int16]) -> NDArray[np.float32]:
    """Map int16 HU of any shape to float32 intensities in [-1, 1]; HU outside the range are cut off."""
    return _TABLE[np.clip(hu, AIR_HU, MAX_HU).astype(np.int32) - AIR_HU]


def intensity_to_hu(intensity: NDArray | torch.Tensor) -> NDArray[np.int16]:
    """Map intensities of any shape back to int16 HU in [-1024, 3071], rounded; values past [-1, 1] are cut off."""
    if isinstance(intensity, torch.Tensor):
        intensity = intensity.detach().to("cpu", torch.float32).numpy()
    return np.rint(np.interp(intensity, _INTENSITY, _HU)).astype(np.int16)

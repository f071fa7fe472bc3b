"""InceptionV3 as in the usual FID: the network of torch-fidelity with its published weights.

The FID of Heusel et al. (2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium") is
defined by one set of weights of TensorFlow; torch-fidelity carries that network over to the last bit. torchvision's
InceptionV3 is another one. Images become what such a network expects: HU in [-1000, 1000] as 8-bit grey in three equal
channels, enlarged to 299 x 299 by the network's own interpolation. It knows photographs, not CT; steps of 8 HU between
grey values hide faint noise. Its figures stand beside those of papers, ours come from "ctfeatures".

torch-fidelity is not installed by default (``pip install "ctdiffusion[inception]"``), for it brings torchvision along.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from CTDiffusionLogic.errors import ModelFileError, ResourceError
from CTDiffusionLogic.fidelity.availability import INCEPTION_WEIGHTS as WEIGHTS
from CTDiffusionLogic.fidelity.extractors.base import checked_images
from CTDiffusionLogic.fidelity.extractors.published_weights import (
    file_sha256,
    find_weights,
    read_weights,
)

NAME = "inception"
HU_WINDOW = (-1000.0, 1000.0)
_LAYER = "2048"
_BATCH = 16


@dataclass(frozen=True, eq=False)
class Inception:
    """The extractor; see :class:`CTDiffusionLogic.fidelity.extractors.base.Extractor`."""

    net: nn.Module
    sha256: str
    device: str = "cpu"
    name: str = NAME
    dimensions: int = int(_LAYER)

    def features(self, images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
        """As the interface says; ``pixel_mm`` is checked and not used."""
        images = checked_images(images, pixel_mm)
        rows = [np.empty((0, self.dimensions), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = to_rgb(torch.from_numpy(images[start : start + _BATCH]).to(self.device))
                rows.append(self.net(batch)[0].cpu().numpy())
        return np.concatenate(rows)


def to_rgb(hu: Tensor) -> Tensor:
    """HU (n, H, W) to uint8 (n, 3, H, W): -1000 HU and below is 0, 1000 HU and above 255."""
    low, high = HU_WINDOW
    grey = ((hu - low) * (255.0 / (high - low))).clamp(0.0, 255.0).round().to(torch.uint8)
    return grey[:, None].expand(-1, 3, -1, -1).contiguous()


def load(path: Path | None = None, *, allow_download: bool = False, device: str = "cpu") -> Inception:
    """Build the extractor from a weights file (.pth of torch-fidelity, or its tensors as .safetensors).

    Raises:
        ResourceError: If torch-fidelity or the weights are missing.
        ModelFileError: If the weights are broken or another network's.
    """
    network = _network_type()
    file = find_weights(WEIGHTS, path, allow_download=allow_download)
    # The network unpickles the file it is given without any check (torch-fidelity 0.4.0). What it gets here was read
    # as tensors and nothing else, and written again.
    safe = io.BytesIO()
    torch.save(read_weights(file), safe)
    safe.seek(0)
    try:
        net = network(NAME, [_LAYER], feature_extractor_weights_path=safe).eval().requires_grad_(False)
    except RuntimeError as error:
        causes = [line.strip() for line in str(error).splitlines()[1:]] or [str(error)]
        raise ModelFileError(
            f"{file} does not hold the {WEIGHTS.title}: {causes[0][:200]}", remedy="Name the right weights file."
        ) from error
    return Inception(net.to(device), file_sha256(file), device)


def _network_type() -> Callable[..., nn.Module]:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision of another build than torch
        raise ResourceError(
            f"The extractor inception needs torch-fidelity, which cannot be imported ({error}).",
            remedy=(
                'Run `python -m pip install "ctdiffusion[inception]"`; torchvision must be of the same build '
                "(CPU, CUDA) as torch. Or use the extractor ctfeatures."
            ),
        ) from error
    return FeatureExtractorInceptionV3

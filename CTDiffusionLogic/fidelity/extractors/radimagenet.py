"""RadImageNet ResNet-50, with the preparation of MAISI's 2.5D protocol, so that figures can stand beside theirs.

The network: Mei et al. 2022, "RadImageNet: an open radiologic deep learning research dataset for effective transfer
learning", as carried over from Keras (``Warvito/radimagenet-models``), which MONAI's losses and MAISI load from
torch.hub. The preparation is that of ``compute_fid_2-5d_ct.py`` of the MAISI tutorial: HU cut to [-1000, 1000]; the
images of one plane of one volume scaled together from their smallest and largest value to [0, 1]; three equal
channels minus 0.406, 0.456, 0.485 (blue, green, red); features averaged over the image (2048).

Two consequences. All images of a volume and plane belong into one call of ``features``. And an offset of HU that
stays within the window changes nothing: this extractor need not see it, "ctfeatures" does.

The file is the state dict of that repository's own ResNet-50 (names, shapes, strides and epsilon were compared with
it, and the preparation with MAISI's script). RadImageNet's later files for PyTorch (``ResNet50.pt``) are of another
network. The architecture is MONAI's ResNet-50 with what Keras has otherwise: strides at the first convolution of a
block, biases before batch norms (taken off their means, which is the same), and another epsilon.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from CTDiffusionLogic.fidelity.availability import RADIMAGENET_WEIGHTS as WEIGHTS
from CTDiffusionLogic.fidelity.extractors.base import checked_images
from CTDiffusionLogic.fidelity.extractors.published_weights import (
    file_sha256,
    find_weights,
    fit_weights,
    read_weights,
)

NAME = "radimagenet"
HU_WINDOW = (-1000.0, 1000.0)
CHANNEL_MEANS = (0.406, 0.456, 0.485)
_EPSILON = 1.001e-5
_BATCH = 16


@dataclass(frozen=True, eq=False)
class RadImageNet:
    """The extractor; see :class:`CTDiffusionLogic.fidelity.extractors.base.Extractor`."""

    net: nn.Module
    sha256: str
    device: str = "cpu"
    name: str = NAME
    dimensions: int = 2048

    def features(self, images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
        """As the interface says, of the images of one plane of one volume; ``pixel_mm`` is checked and not used."""
        images = checked_images(images, pixel_mm)
        rows = [np.empty((0, self.dimensions), np.float32)]
        if not len(images):
            return rows[0]
        scaled = to_unit_range(torch.from_numpy(images))
        means = torch.tensor(CHANNEL_MEANS)[None, :, None, None]
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = scaled[start : start + _BATCH, None] - means
                rows.append(self.net(batch.to(self.device)).cpu().numpy())
        return np.concatenate(rows)


def to_unit_range(hu: Tensor) -> Tensor:
    """HU (n, H, W) cut to the window and scaled together to [0, 1]."""
    cut = hu.clamp(*HU_WINDOW)
    return (cut - cut.min()) / (cut.max() - cut.min() + 1e-10)


class RadImageNetResNet50(nn.Module):
    """Images (n, 3, H, W) -> features (n, 2048), averaged over the image."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNet, ResNetBottleneck

        self.body = ResNet(
            "bottleneck",
            layers=[3, 4, 6, 3],
            block_inplanes=[64, 128, 256, 512],
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        for module in self.body.modules():
            if isinstance(module, ResNetBottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
            elif isinstance(module, nn.BatchNorm2d):
                module.eps = _EPSILON

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.body(images)


def without_biases(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Take the biases of convolutions off the means of the batch norms that follow: the outputs stay the same.

    A name without its ``.bias`` is left for the network to complain of; extra ones likewise.
    """
    kept = dict(weights)
    for name in weights:
        norm = _norm_after(name)
        if norm and f"{norm}.running_mean" in kept:
            kept[f"{norm}.running_mean"] = kept[f"{norm}.running_mean"] - kept.pop(name)
    return kept


def load(path: Path | None = None, *, allow_download: bool = False, device: str = "cpu") -> RadImageNet:
    """Build the extractor from a weights file (``RadImageNet-ResNet50_notop.pth``, or its tensors as .safetensors).

    Raises:
        ResourceError: If the weights are missing.
        ModelFileError: If they are broken or another network's.
    """
    file = find_weights(WEIGHTS, path, allow_download=allow_download)
    net = RadImageNetResNet50()
    fit_weights(net.body, without_biases(read_weights(file)), file, WEIGHTS.title)
    return RadImageNet(net.to(device).eval().requires_grad_(False), file_sha256(file), device)


def _norm_after(name: str) -> str:
    """Name of the batch norm behind the convolution whose bias is ``name``; "" if it is no such bias."""
    place, _, last = name.removesuffix(".bias").rpartition(".")
    if not name.endswith(".bias"):
        return ""
    if last.startswith("conv"):
        norm = "bn" + last.removeprefix("conv")
    elif last == "0" and place.endswith("downsample"):
        norm = "1"
    else:
        return ""
    return f"{place}.{norm}" if place else norm

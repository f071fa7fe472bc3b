"""The default extractor: a small CT network of this project, bundled, made by ``ctdiffusion train-features``.

A residual network of MONAI (0.7 million weights) sees an image as HU in [-1000, 1000], scaled to [-1, 1]. The averages
over the image of a middle stage (64: texture, noise, sharpness) and of the last (192: anatomy) are reduced to their 64
leading principal components over the training images, each divided by its standard deviation. Without that, the
many features that tell the same (half of the variance lay in one direction, sharpness) would drown all others; and
covariances of 256 features cannot be told from the some dozen images that there are of a few patients.

Pixels are taken as they come: the protocol of a comparison gives both groups the same pixel size, and an image whose
true spacing is another than it claims must look different. How it was trained: see ``fidelity/feature_training.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.fidelity.extractors.base import checked_images
from CTDiffusionLogic.fidelity.extractors.feature_file import load_feature_file

NAME = "ctfeatures"
#: HU that the network can tell apart; the middle of it becomes 0.
HU_RANGE = 1000.0
#: Channels of the four stages; features come from the second and the fourth.
WIDTHS = (24, 64, 96, 192)
#: Principal components kept.
COMPONENTS = 64
_MAX_WIDTH = 1024
#: Images of one pass: fixed, so that memory is bounded and equal calls give equal features.
_BATCH = 32


def bundled_weights() -> Path:
    """The file that comes with CTDiffusion."""
    return Path(__file__).resolve().parent.parent / "weights" / f"{NAME}.safetensors"


class FeatureNet(nn.Module):
    """Images (n, 1, H, W) in [-1, 1] -> averages (n, M), M the widths of the second and the fourth stage together."""

    def __init__(self, widths: Sequence[int] = WIDTHS, components: int = COMPONENTS) -> None:
        super().__init__()
        from monai.networks.nets.resnet import ResNet

        self.dimensions = components
        self.averages = widths[1] + widths[3]
        self.body = ResNet(
            "basic",
            layers=[1, 1, 1, 1],
            block_inplanes=list(widths),
            spatial_dims=2,
            n_input_channels=1,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        self.mean: Tensor
        self.components: Tensor
        self.register_buffer("mean", torch.zeros(self.averages))
        self.register_buffer("components", torch.eye(self.averages, components))

    def forward(self, images: Tensor) -> Tensor:
        """The averages of the stages."""
        body = self.body
        middle = body.layer2(body.layer1(body.maxpool(body.act(body.bn1(body.conv1(images))))))
        last = body.layer4(body.layer3(middle))
        return torch.cat([middle.mean(dim=(2, 3)), last.mean(dim=(2, 3))], dim=1)

    def features(self, images: Tensor) -> Tensor:
        """Principal components (n, D) of the averages: mean 0, variance 1, not correlated over the training images."""
        return (self(images) - self.mean) @ self.components


def to_intensity(hu: Tensor) -> Tensor:
    """HU to [-1, 1]; what lies outside the window is cut."""
    return (hu / HU_RANGE).clamp(-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class CTFeatures:
    """The extractor; see :class:`CTDiffusionLogic.fidelity.extractors.base.Extractor`.

    Args:
        net: In evaluation mode.
        sha256: Of the file.
        card: What the file says about itself.
        device: Where it runs.
    """

    net: FeatureNet
    sha256: str
    card: Mapping[str, Any]
    device: str = "cpu"
    name: str = NAME

    @property
    def dimensions(self) -> int:
        """Length of a feature vector."""
        return self.net.dimensions

    def features(self, images: NDArray[np.float32], pixel_mm: float) -> NDArray[np.float32]:
        """As the interface says; ``pixel_mm`` is checked and not used."""
        images = checked_images(images, pixel_mm)
        rows = [np.empty((0, self.dimensions), np.float32)]
        with torch.inference_mode():
            for start in range(0, len(images), _BATCH):
                batch = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH]))[:, None]
                batch = to_intensity(batch.to(self.device)).contiguous(memory_format=torch.channels_last)
                rows.append(self.net.features(batch).cpu().numpy())
        return np.concatenate(rows)


def load(path: Path | None = None, *, allow_download: bool = False, device: str = "cpu") -> CTFeatures:
    """Build the extractor from a file of ``ctdiffusion train-features``, by default the bundled one.

    A network of one's own has the name "ctfeatures:" and the start of its digest: its figures compare with no others.

    Raises:
        ModelFileError: If the file is missing, broken or of another kind.
    """
    del allow_download  # nothing to fetch
    file = load_feature_file(path or bundled_weights())
    try:
        widths = [int(width) for width in file.card["architecture"]["widths"]]
        components = int(file.card["architecture"]["components"])
        if len(widths) != 4 or not all(0 < width <= _MAX_WIDTH for width in [*widths, components]):
            raise ValueError(f"widths are {widths}, components {components}")
        net = FeatureNet(widths, components)
        net.load_state_dict(dict(file.tensors))  # copies float16 into float32
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        cause = str(error).splitlines()[-1].strip()
        raise ModelFileError(
            f"{file.path}: the network of its card cannot be built from its weights ({cause}).",
            remedy="Get the file again, or make one with `ctdiffusion train-features`.",
        ) from error
    net = net.to(device).eval().requires_grad_(False)
    name = NAME if path is None else f"{NAME}:{file.sha256[:8]}"
    return CTFeatures(net, file.sha256, file.card, device, name)

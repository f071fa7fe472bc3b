"""The slab denoiser: diffusers' 2D U-Net over a few slices as channels, behind a pixel-unshuffle, and a refiner.

One network class serves both stages. The anatomy stage sees whole slices on a coarse grid and gets pixel
coordinates as further channels, of the image and relative to the edges of the body; the detail stage gets
the upsampled anatomy as K further channels and is fully convolutional, so that it learns from patches and
runs on any matrix.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.refiner import Refiner
from CTDiffusionLogic.narrow_import import import_unet
from CTDiffusionLogic.noise import Parametrization, precondition

#: Wavelengths (mm) of the sinusoids that encode the anatomical body position.
BODY_WAVELENGTHS_MM = (2400.0, 1200.0, 600.0, 300.0, 150.0, 75.0)


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Shape of a slab denoiser; saved in the model's card.

    Args:
        stage: "anatomy" or "detail".
        slices: K, slices of a slab.
        channels: Feature channels per resolution level; multiples of 8.
        layers: Residual blocks per level.
        attention: Whether the lowest level attends (needs a fixed image size to mean the same).
        labels: Number of classes besides "none".
        sigma_data: Standard deviation of the clean data, in the stage's own space.
        residual_scale: The detail stage's unit of residual, in intensities; 1.0 for anatomy.
        unshuffle: Pixels per side folded into channels at the door.
        parametrization: What the network proper estimates; see :func:`~CTDiffusionLogic.noise.precondition`.
        skip_sigma: Noise below which an estimate of x0 leans on x_t itself; the same function explains it.
        mid_attention: Whether the bottleneck attends too, where ``attention`` is on.
        refiner_channels, refiner_blocks: See :class:`~CTDiffusionLogic.denoiser.refiner.Refiner`; 0 channels: none.
    """

    stage: Literal["anatomy", "detail"]
    slices: int = 8
    channels: tuple[int, ...] = (64, 96, 128)
    layers: int = 2
    attention: bool = True
    labels: int = 0
    sigma_data: float = 0.5
    residual_scale: float = 1.0
    unshuffle: int = 2
    parametrization: Parametrization = "x0"
    skip_sigma: float = 0.0
    mid_attention: bool = True
    refiner_channels: int = 0
    refiner_blocks: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {**asdict(self), "channels": list(self.channels)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> DenoiserConfig:
        """Rebuild from :meth:`to_dict`; raises TypeError on unknown or missing keys."""
        return cls(**{**values, "channels": tuple(values["channels"])})

    @property
    def size_multiple(self) -> int:
        """Image height and width must be multiples of this."""
        return self.unshuffle * 2 ** (len(self.channels) - 1)


class SlabDenoiser(nn.Module):
    """Estimates the clean slab x0 from a noisy one.

    Args:
        config: The network's shape.
    """

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        k, fold = config.slices, config.unshuffle**2
        images = k * (2 if config.stage == "detail" else 1)
        coordinates = 4 if config.stage == "anatomy" else 0
        depth = len(config.channels)
        last = "AttnDownBlock2D" if config.attention else "DownBlock2D"
        first = "AttnUpBlock2D" if config.attention else "UpBlock2D"
        self.unet = import_unet()(  # diffusers' UNet2DModel
            in_channels=images * fold + k + coordinates,
            out_channels=k * fold,
            block_out_channels=config.channels,
            layers_per_block=config.layers,
            down_block_types=("DownBlock2D",) * (depth - 1) + (last,),
            up_block_types=(first,) + ("UpBlock2D",) * (depth - 1),
            add_attention=config.attention and config.mid_attention,
            attention_head_dim=math.gcd(32, config.channels[-1]),
            norm_num_groups=8,
            resnet_time_scale_shift="scale_shift",
            class_embed_type="identity",
        )
        nn.init.zeros_(self.unet.conv_out.weight)
        width = 4 * config.channels[0]
        features = 2 * len(BODY_WAVELENGTHS_MM) + 1 + 1 + 3 * k - 1 + (5 if config.stage == "anatomy" else 1)
        self.embed_conditions = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.embed_label = nn.Embedding(config.labels + 1, width)
        nn.init.zeros_(self.embed_label.weight)
        channels = config.refiner_channels
        self.refiner = Refiner(k, channels, config.refiner_blocks) if channels else None
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a quarter faster on CPUs

    def forward(self, x_t: Tensor, t: Tensor, conditions: SlabConditions) -> Tensor:
        """Estimate the clean slab.

        Args:
            x_t: (B, K, H, W) noisy slab, ``(1 - t) x0 + t noise``; known slices are ignored.
            t: (B,) noise level in (0, 1].
            conditions: See :class:`SlabConditions`; ``known`` and ``coarse`` in this stage's space.

        Returns:
            (B, K, H, W) estimate of x0; known slices come back as given.
        """
        config = self.config
        factors = precondition(t, config.sigma_data, config.parametrization, skip_sigma=config.skip_sigma)
        mask = conditions.mask[:, :, None, None].to(x_t.dtype)
        pixels = slab = torch.where(mask > 0, conditions.known.to(x_t.dtype), factors.c_in * x_t)
        if config.stage == "detail":
            assert conditions.coarse is not None
            pixels = torch.cat([pixels, conditions.coarse.to(x_t.dtype)], dim=1)
        pixels = functional.pixel_unshuffle(pixels, config.unshuffle)
        height, width = pixels.shape[-2:]
        channels = [pixels, mask.expand(-1, -1, height, width)]
        if config.stage == "anatomy":
            channels.append(_coordinates(conditions, height, width, like=pixels))
        inputs = torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)
        embedding = self.embed_conditions(self._features(conditions).to(x_t.dtype))
        embedding = embedding + self.embed_label(conditions.label)
        output = self.unet(inputs, 1000.0 * t, class_labels=embedding, return_dict=False)[0]
        output = functional.pixel_shuffle(output, config.unshuffle)
        estimate = factors.c_skip * x_t + factors.c_out * output
        if config.parametrization == "x0":
            own = 1 - factors.c_skip * (1 - t[:, None, None, None])
            estimate = estimate + own * between_known(conditions).to(estimate.dtype)
        estimate = torch.where(mask > 0, conditions.known.to(estimate.dtype), estimate)
        if self.refiner is None:
            return estimate
        finer = estimate + factors.c_out * self.refiner(slab, estimate / config.sigma_data, mask, t)
        return torch.where(mask > 0, estimate, finer)

    def _features(self, conditions: SlabConditions) -> Tensor:
        """Numbers that describe the slab: (B, features), each of order one."""
        known = torch.isfinite(conditions.body_mm)
        body = torch.where(known, conditions.body_mm, 0.0)[:, None]
        wavelengths = torch.tensor(BODY_WAVELENGTHS_MM, device=body.device)
        phase = 2 * math.pi * body / wavelengths
        flag = known[:, None].float()
        gaps = conditions.offsets_mm.diff(dim=1).clamp(min=0.1)
        parts = [
            torch.cat([phase.sin(), phase.cos()], dim=1) * flag,
            flag,
            conditions.pixel_mm[:, None].log2() - 1.0,
            conditions.offsets_mm / 50.0,
            gaps.log2() / 3.0,
            conditions.mask,
        ]
        if self.config.stage == "anatomy":
            parts.append(_box_features(conditions))
        else:
            noise = torch.zeros_like(body) if conditions.coarse_noise is None else conditions.coarse_noise[:, None]
            parts.append(10.0 * noise)
        return torch.cat(parts, dim=1)


def empty_denoiser(config: DenoiserConfig) -> SlabDenoiser:
    """A denoiser of shapes alone, for weights that are assigned to it: it takes no memory, and no values are drawn.

    torch has a way of its own to draw normal values for the device "meta", where tensors have no memory: through its
    compiler, whose import takes 1.4 s of processor time, a third of all before the first pass of a small volume.
    """
    with torch.device("meta"), _WithoutValues():
        return SlabDenoiser(config)


class _WithoutValues(TorchFunctionMode):
    """Leaves tensors as they are where :mod:`torch.nn.init` would fill them."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


#: How far (mm) known slices speak for those beyond them, where there is no slice on the other side.
REACH_MM = 60.0


def between_known(conditions: SlabConditions) -> Tensor:
    """First guess of every slice from the known ones alone: (B, K, H, W), 0 where nothing is known.

    Linear interpolation along z between known slices; beyond the last one its value, fading with the distance. A
    network that estimates x0 adds what this lacks. Left to make whole slices it was no better between known ones
    than this guess, so that every second slice of a volume looked different.
    """
    mask, offsets = conditions.mask > 0, conditions.offsets_mm
    count = mask.shape[1]
    index = torch.arange(count, device=mask.device).expand_as(mask)
    below = torch.where(mask, index, -1).cummax(dim=1).values
    above = torch.where(mask, index, count).flip(1).cummin(dim=1).values.flip(1)
    has_below, has_above = below >= 0, above < count
    below, above = below.clamp(min=0), above.clamp(max=count - 1)
    down = offsets - offsets.gather(1, below)
    up = offsets.gather(1, above) - offsets
    share = torch.where(has_below & has_above, down / (down + up).clamp(min=1e-3), has_above.to(offsets.dtype))
    distance = torch.where(has_below & has_above, 0.0, torch.where(has_below, down, up))
    strength = torch.where(has_below | has_above, (-distance / REACH_MM).exp(), 0.0)
    weights = torch.zeros(*mask.shape, count, device=mask.device, dtype=offsets.dtype)
    weights.scatter_add_(2, below[:, :, None], ((1 - share) * strength)[:, :, None])
    weights.scatter_add_(2, above[:, :, None], (share * strength)[:, :, None])
    known = conditions.known * conditions.mask[:, :, None, None]
    return torch.einsum("bij,bjhw->bihw", weights.to(known.dtype), known)


def _box_features(conditions: SlabConditions) -> Tensor:
    """The body's edges around 0, and whether they are known: (B, 5)."""
    if conditions.body_box is None:
        return torch.zeros(len(conditions), 5, device=conditions.mask.device)
    known = torch.isfinite(conditions.body_box).all(dim=1, keepdim=True)
    edges = torch.where(known, 4.0 * (conditions.body_box - 0.5), 0.0)
    return torch.cat([edges, known.float()], dim=1)


def _coordinates(conditions: SlabConditions, height: int, width: int, *, like: Tensor) -> Tensor:
    """Row and column in [-1, 1] of the image, then of the body (0 where its edges are unknown): (B, 4, H, W).

    Where a pixel lies within the body says more about its tissue than where it lies in the image: patients
    differ in size and place.
    """
    batch = len(conditions)
    rows, columns = (
        (torch.arange(n, device=like.device, dtype=like.dtype) + 0.5).mul(1 / n).expand(batch, -1)
        for n in (height, width)
    )
    axes = [2 * rows - 1, 2 * columns - 1]
    if conditions.body_box is None:
        axes += [torch.zeros_like(rows), torch.zeros_like(columns)]
    else:
        known = torch.isfinite(conditions.body_box).all(dim=1, keepdim=True)
        edges = torch.where(known, conditions.body_box, 0.0).to(like.dtype)
        for axis, low in ((rows, 0), (columns, 2)):
            extent = (edges[:, low + 1] - edges[:, low]).clamp(min=0.05)[:, None]
            relative = 2 * (axis - edges[:, low, None]) / extent - 1
            axes.append(torch.where(known, relative, 0.0).clamp(-3, 3))
    planes = [
        axis[:, :, None].expand(-1, -1, width) if i % 2 == 0 else axis[:, None].expand(-1, height, -1)
        for i, axis in enumerate(axes)
    ]
    return torch.stack(planes, dim=1)

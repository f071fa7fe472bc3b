"""Two other libraries' training loops and samplers, as their own examples have them, to measure ours against.

- **MONAI**: the tutorial "2D DDPM" (Project-MONAI/tutorials, generation/2d_ddpm): DDPMScheduler of 1,000 steps,
  DiffusionInferer, mean squared error of the noise, Adam at 2.5e-5, mixed precision on GPUs, four worker processes;
  random affine changes of half of the images.
- **diffusers**: the example "unconditional image generation": DDPMScheduler of 1,000 steps, AdamW at 1e-4 with a
  cosine schedule after 500 steps, accelerate, gradients clipped to 1, EMA of the weights, no worker processes;
  images mirrored at random.

Both see images alone: no known slices, no positions. Written after the two examples' text, not copied from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from bench_tools import nothing_known
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.network import SlabDenoiser

TRAIN_STEPS = 1000
#: Worker processes of the two examples.
WORKERS = {"MONAI": 4, "diffusers": 0}
#: Learning rates of the two examples.
LEARNING_RATE = {"MONAI": 2.5e-5, "diffusers": 1e-4}


class SlabImages(Dataset):
    """The slabs that our training sees, one at a time and prepared by the same code, as images of K channels."""

    def __init__(self, stream: SlabStream, count: int = 1_000_000) -> None:
        self.stream, self.count = stream, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> Tensor:
        return self.stream.batch(number)[0][0]


class AsNoisePredictor(nn.Module):
    """A slab denoiser, called as MONAI calls its networks: it estimates noise from a noisy slab and is told nothing.

    So the other libraries' loops train the very same network, to the last weight.
    """

    def __init__(self, denoiser: SlabDenoiser) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        told = nothing_known(self.denoiser.config, x.shape[-1], slabs=len(x)).to(x.device)
        levels = ((timesteps + 0.5) / TRAIN_STEPS).to(x.dtype)
        return self.denoiser(x, levels, told)


class Folded(nn.Module):
    """A network behind our pixel-unshuffle, without which a pass over a slab costs four times as much."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, timesteps: Tensor, context: Tensor | None = None) -> Tensor:
        output = self.inner(functional.pixel_unshuffle(x, 2), timesteps)
        return functional.pixel_shuffle(output if isinstance(output, Tensor) else output.sample, 2)


@dataclass
class Loop:
    """A training loop that is stepped from outside.

    Args:
        network: What learns.
        step: Takes a batch of images and returns the loss as a number, as the examples do for their progress bars.
        averaged: Puts the weights for sampling into the network.
    """

    network: nn.Module
    step: Callable[[Tensor], float]
    averaged: Callable[[], None] = lambda: None


def monai_loop(network: nn.Module, device: torch.device, *, learning_rate: float | None = None) -> Loop:
    """The loop of MONAI's tutorial around a network that is called with x and timesteps."""
    from monai.inferers import DiffusionInferer
    from monai.networks.schedulers import DDPMScheduler

    network = network.to(device).train()
    inferer = DiffusionInferer(DDPMScheduler(num_train_timesteps=TRAIN_STEPS))
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate or LEARNING_RATE["MONAI"])
    on_gpu = device.type == "cuda"
    scaler = torch.amp.GradScaler(device.type, enabled=on_gpu)

    def step(images: Tensor) -> float:
        images = images.to(device)
        optimizer.zero_grad(set_to_none=True)
        with torch.amp.autocast(device.type, enabled=on_gpu):
            noise = torch.randn_like(images)
            times = torch.randint(0, TRAIN_STEPS, (len(images),), device=device).long()
            estimate = inferer(inputs=images, diffusion_model=network, noise=noise, timesteps=times)
            loss = functional.mse_loss(estimate.float(), noise.float())
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        return loss.item()

    return Loop(network, step)


def diffusers_loop(
    network: nn.Module,
    device: torch.device,
    *,
    call: Callable[[nn.Module, Tensor, Tensor], Tensor] = lambda network, x, t: network(x, t),
    learning_rate: float | None = None,
    steps: int = 10_000,
) -> Loop:
    """The loop of diffusers' example.

    Args:
        network: What learns.
        device: Where.
        call: How the network is asked for the noise in x at times t.
        learning_rate: Another than the example's.
        steps: After which the cosine schedule reaches 0.
    """
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision="no")
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=learning_rate or LEARNING_RATE["diffusers"],
        betas=(0.95, 0.999),
        weight_decay=1e-6,
        eps=1e-8,
    )
    scheduler = DDPMScheduler(num_train_timesteps=TRAIN_STEPS, beta_schedule="linear")
    warmup = min(500, steps // 10)
    rates = get_scheduler("cosine", optimizer=optimizer, num_warmup_steps=warmup, num_training_steps=steps)
    wrapped, optimizer, rates = accelerator.prepare(network.train(), optimizer, rates)
    average = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    average.to(accelerator.device)

    def step(images: Tensor) -> float:
        images = images.to(accelerator.device)
        noise = torch.randn_like(images)
        times = torch.randint(0, TRAIN_STEPS, (len(images),), device=images.device).long()
        noisy = scheduler.add_noise(images, noise, times)
        with accelerator.accumulate(wrapped):
            loss = functional.mse_loss(call(wrapped, noisy, times).float(), noise.float())
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        average.step(network.parameters())
        return loss.detach().item()

    return Loop(network, step, lambda: average.copy_to(network.parameters()))


def batches(data: Dataset, batch: int, *, workers: int) -> Iterator[Tensor]:
    """Batches without end."""
    loader: DataLoader = DataLoader(
        data, batch_size=batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    while True:
        yield from loader


def monai_network(
    channels: Sequence[int], *, images: int = 1, layers: int = 1, attention: Sequence[bool] | None = None
) -> nn.Module:
    """MONAI's own U-Net; groups of 8 channels where 32 do not divide them."""
    from monai.networks.nets import DiffusionModelUNet

    attention = attention or (False,) * (len(channels) - 1) + (True,)
    return DiffusionModelUNet(
        spatial_dims=2,
        in_channels=images,
        out_channels=images,
        channels=tuple(channels),
        attention_levels=tuple(attention),
        num_res_blocks=layers,
        num_head_channels=tuple(channels),  # one head; asked for at levels without attention, too
        norm_num_groups=32 if all(c % 32 == 0 for c in channels) else 8,
    )


def diffusers_network(
    channels: Sequence[int], *, size: int, images: int = 1, layers: int = 2, attention: Sequence[bool] | None = None
) -> nn.Module:
    """diffusers' own U-Net."""
    from diffusers import UNet2DModel

    attention = attention or (False,) * (len(channels) - 1) + (True,)
    return UNet2DModel(
        sample_size=size,
        in_channels=images,
        out_channels=images,
        layers_per_block=layers,
        block_out_channels=tuple(channels),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in reversed(list(attention))),
        norm_num_groups=32 if all(c % 32 == 0 for c in channels) else 8,
    )


@torch.no_grad()
def monai_sample(network: nn.Module, count: int, size: int, *, steps: int, seed: int) -> Tensor:
    """Images (count, 1, size, size) as the tutorial samples them."""
    from monai.inferers import DiffusionInferer
    from monai.networks.schedulers import DDPMScheduler

    scheduler = DDPMScheduler(num_train_timesteps=TRAIN_STEPS)
    scheduler.set_timesteps(num_inference_steps=steps)
    device = next(network.parameters()).device
    torch.manual_seed(seed)
    noise = torch.randn(count, 1, size, size).to(device)
    options: dict[str, Any] = {"scheduler": scheduler, "verbose": False}
    return DiffusionInferer(scheduler).sample(noise, network.eval(), **options).cpu()


@torch.no_grad()
def diffusers_sample(network: nn.Module, count: int, size: int, *, steps: int, seed: int) -> Tensor:
    """Images (count, 1, size, size) as the example's pipeline makes them, back in [-1, 1]."""
    from diffusers import DDPMPipeline, DDPMScheduler

    pipeline = DDPMPipeline(unet=network.eval(), scheduler=DDPMScheduler(TRAIN_STEPS, beta_schedule="linear"))
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator(next(network.parameters()).device).manual_seed(seed)
    images = pipeline(batch_size=count, generator=generator, num_inference_steps=steps, output_type="np").images
    return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1

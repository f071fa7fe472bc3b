"""Between the stages: down, along z, up, and the residual."""

import torch

from CTDiffusionLogic.denoiser.coarse import downsample, from_residual, interpolate_along_z, to_residual, upsample


def test_downsampling_keeps_the_mean_and_removes_what_the_grid_cannot_hold():
    stripes = torch.ones(1, 64, 64)
    stripes[..., ::2] = -1
    small = downsample(stripes, (16, 16))
    assert float(small[..., 2:-2].abs().max()) < 0.05, "aliasing would leave the stripes"
    assert float((downsample(torch.full((2, 64, 64), 0.3), (16, 16)) - 0.3).abs().max()) < 1e-6


def test_interpolation_along_z_is_linear_and_held_at_the_ends():
    anatomy = torch.stack([torch.full((4, 4), v) for v in (0.0, 1.0, 3.0)])
    positions = torch.tensor([0.0, 2.0, 6.0])
    wanted = torch.tensor([-1.0, 0.0, 1.0, 2.0, 4.0, 6.0, 9.0])
    values = interpolate_along_z(anatomy, positions, wanted)[:, 0, 0]
    assert torch.allclose(values, torch.tensor([0.0, 0.0, 0.5, 1.0, 2.0, 3.0, 3.0]))
    assert interpolate_along_z(anatomy[:1], positions[:1], wanted).shape == (7, 4, 4)


def test_a_patch_has_the_same_anatomy_as_the_whole_image():
    """What training cuts out with a margin equals what generation sees in the whole image."""
    image = torch.randn(1, 256, 256, generator=torch.Generator().manual_seed(0))
    whole = upsample(downsample(image, (64, 64)), (256, 256))
    part = image[:, 48:144, 64:160]
    patch = upsample(downsample(part, (24, 24)), (96, 96))
    assert torch.allclose(whole[:, 64:128, 80:144], patch[:, 16:80, 16:80], atol=1e-5)


def test_residual_and_back():
    slices, coarse = torch.randn(2, 8, 8), torch.randn(2, 8, 8)
    assert torch.allclose(from_residual(to_residual(slices, coarse, 0.24), coarse, 0.24), slices, atol=1e-6)

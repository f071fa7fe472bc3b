"""RadImageNet's ResNet-50: MONAI's network with Keras's weights, MAISI's preparation of images.

It must see blur and noise (any network does); it need not see an offset of HU that stays within the window, for
MAISI's protocol scales each stack by its own range. With random weights only the arithmetic can be tested.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from torch.nn import functional

from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.extractors.radimagenet import (
    CHANNEL_MEANS,
    RadImageNetResNet50,
    to_unit_range,
    without_biases,
)

STAGES = {"layer1": (64, 3), "layer2": (128, 4), "layer3": (256, 6), "layer4": (512, 3)}


def random_weights() -> dict[str, torch.Tensor]:
    """Random weights under the names of ``RadImageNet-ResNet50_notop.pth``: all convolutions have biases."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, torch.Tensor] = {}

    def add(conv: str, norm: str, out: int, inner: int, kernel: int) -> None:
        scale = (2.0 / (inner * kernel**2)) ** 0.5
        weights[f"{conv}.weight"] = scale * torch.randn(out, inner, kernel, kernel, generator=generator)
        for name in (f"{conv}.bias", f"{norm}.bias", f"{norm}.running_mean"):
            weights[name] = 0.2 * torch.randn(out, generator=generator)
        for name in (f"{norm}.weight", f"{norm}.running_var"):
            weights[name] = 0.5 + torch.rand(out, generator=generator)
        weights[f"{norm}.num_batches_tracked"] = torch.tensor(7)

    add("conv1", "bn1", 64, 3, 7)
    inner = 64
    for stage, (width, blocks) in STAGES.items():
        for block in range(blocks):
            place = f"{stage}.{block}"
            add(f"{place}.conv1", f"{place}.bn1", width, inner, 1)
            add(f"{place}.conv2", f"{place}.bn2", width, width, 3)
            add(f"{place}.conv3", f"{place}.bn3", 4 * width, width, 1)
            if block == 0:
                add(f"{place}.downsample.0", f"{place}.downsample.1", 4 * width, inner, 1)
            inner = 4 * width
    return weights


def features_by_definition(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """The converted network as it is written: strides at the first convolution of a block, biases, its epsilon."""

    def layer(x: torch.Tensor, conv: str, norm: str, stride: int = 1) -> torch.Tensor:
        kernel = weights[f"{conv}.weight"]
        x = functional.conv2d(x, kernel, weights[f"{conv}.bias"], stride, kernel.shape[-1] // 2)
        facts = (weights[f"{norm}.{name}"] for name in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, *facts, eps=1.001e-5)

    x = functional.max_pool2d(functional.relu(layer(x, "conv1", "bn1", 2)), 3, 2, 1)
    for stage, (_, blocks) in STAGES.items():
        for block in range(blocks):
            place, stride = f"{stage}.{block}", 2 if block == 0 and stage != "layer1" else 1
            y = functional.relu(layer(x, f"{place}.conv1", f"{place}.bn1", stride))
            y = functional.relu(layer(y, f"{place}.conv2", f"{place}.bn2"))
            y = layer(y, f"{place}.conv3", f"{place}.bn3")
            x = functional.relu(
                y + (layer(x, f"{place}.downsample.0", f"{place}.downsample.1", stride) if block == 0 else x)
            )
    return x.mean(dim=(2, 3))


@pytest.fixture(scope="module")
def weights():
    return random_weights()


@pytest.fixture(scope="module")
def file(weights, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "RadImageNet-ResNet50_notop.pth"
    torch.save(weights, path)
    return path


def test_features_are_those_of_the_published_definition(weights, file):
    images = np.random.default_rng(0).uniform(-1400, 1400, (2, 64, 80)).astype(np.float32)
    extractor = get_extractor(f"radimagenet:{file}")
    assert (extractor.name, extractor.dimensions) == ("radimagenet", 2048)
    assert extractor.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    found = extractor.features(images, 1.0)
    unit = (np.clip(images, -1000, 1000) + 1000) / 2000  # for these images span the window
    channels = torch.from_numpy(unit)[:, None] - torch.tensor([0.406, 0.456, 0.485])[:, None, None]
    wanted = features_by_definition(weights, channels).numpy()
    assert found.dtype == np.float32
    assert found.shape == (2, 2048)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())
    assert extractor.features(images[:0], 1.0).shape == (0, 2048)


def test_names_and_shapes_are_those_of_the_published_file(weights):
    """As ``ResNet50().state_dict()`` of Warvito/radimagenet-models (0639bca) has them, which is what it saves."""
    assert len(weights) == 53 * (2 + 5), "53 convolutions with biases, each with a batch norm of five tensors"
    numbers = sum(tensor.numel() for name, tensor in weights.items() if not name.endswith("num_batches_tracked"))
    assert numbers == 23_587_712, "as Keras counts for ResNet50 without its top, from which the file was carried over"
    for name, shape in {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "layer2.0.conv1.bias": (128,),
        "layer3.5.conv2.weight": (256, 256, 3, 3),
        "layer4.0.downsample.1.running_var": (2048,),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
    }.items():
        assert tuple(weights[name].shape) == shape
    with torch.device("meta"):  # names and shapes are enough
        own = RadImageNetResNet50().body.state_dict()
    assert own.keys() == without_biases(weights).keys()
    assert all(own[name].shape == tensor.shape for name, tensor in without_biases(weights).items())


def test_images_of_a_call_are_scaled_together():
    images = torch.tensor([[[-2000.0, -500.0]], [[0.0, 200.0]]])
    np.testing.assert_allclose(to_unit_range(images).flatten(), [0, 500 / 1200, 1000 / 1200, 1], rtol=1e-6)
    np.testing.assert_allclose(to_unit_range(images.clamp(-900, 100) + 50), to_unit_range(images.clamp(-900, 100)))
    assert to_unit_range(torch.full((1, 2, 2), -1000.0)).abs().max() == 0
    assert CHANNEL_MEANS == (0.406, 0.456, 0.485)


def test_weights_of_another_network_are_refused(weights, tmp_path):
    path = tmp_path / "other.pth"
    for change in (
        {"layer3.2.conv2.weight": None},
        {"fc.weight": torch.zeros(165, 2048)},
        {"conv1.weight": torch.zeros(64, 1, 7, 7)},
    ):
        changed = {name: tensor for name, tensor in (weights | change).items() if tensor is not None}
        torch.save(changed, path)
        with pytest.raises(ModelFileError, match=next(iter(change))) as caught:
            get_extractor(f"radimagenet:{path}")
        assert str(path) in caught.value.message

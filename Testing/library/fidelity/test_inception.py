"""InceptionV3 of the usual FID: what it is given, and that torch-fidelity's real network loads weights safely."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
import torch

from CTDiffusionLogic.errors import ModelFileError, ResourceError
from CTDiffusionLogic.fidelity.extractors import get_extractor, inception
from CTDiffusionLogic.fidelity.extractors.inception import WEIGHTS, to_rgb


def test_grey_values():
    hu = torch.tensor([[[-2000.0, -1000.0, -996.2, -0.1, 999.0, 3071.0]]])
    rgb = to_rgb(hu)
    assert rgb.dtype == torch.uint8
    assert rgb.shape == (1, 3, 1, 6)
    assert rgb[0, :, 0].tolist() == [[0, 0, 0, 127, 255, 255]] * 3


def test_without_torch_fidelity_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ResourceError) as caught:
        get_extractor("inception")
    assert "torch-fidelity" in caught.value.message
    assert "ctdiffusion[inception]" in caught.value.remedy


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes in ``weights-inception-2015-12-05-6726825d.pth``, after torch-fidelity's own converter
    (``utils/util_convert_inception_weights.py``), which writes no ``num_batches_tracked``."""
    convolutions: dict[str, tuple[int, ...]] = {
        "Conv2d_1a_3x3": (32, 3, 3, 3),
        "Conv2d_2a_3x3": (32, 32, 3, 3),
        "Conv2d_2b_3x3": (64, 32, 3, 3),
        "Conv2d_3b_1x1": (80, 64, 1, 1),
        "Conv2d_4a_3x3": (192, 80, 3, 3),
    }

    def block(name: str, **branches: tuple[int, ...]) -> None:
        convolutions.update({f"{name}.branch{branch}": shape for branch, shape in branches.items()})

    for name, inner, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        block(
            f"Mixed_{name}",
            **{"1x1": (64, inner, 1, 1), "5x5_1": (48, inner, 1, 1), "5x5_2": (64, 48, 5, 5)},
            **{"3x3dbl_1": (64, inner, 1, 1), "3x3dbl_2": (96, 64, 3, 3), "3x3dbl_3": (96, 96, 3, 3)},
            _pool=(pool, inner, 1, 1),
        )
    block(
        "Mixed_6a",
        **{"3x3": (384, 288, 3, 3), "3x3dbl_1": (64, 288, 1, 1)},
        **{"3x3dbl_2": (96, 64, 3, 3), "3x3dbl_3": (96, 96, 3, 3)},
    )
    for name, c7 in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        block(
            f"Mixed_{name}",
            **{"1x1": (192, 768, 1, 1), "7x7_1": (c7, 768, 1, 1), "7x7_2": (c7, c7, 1, 7), "7x7_3": (192, c7, 7, 1)},
            **{"7x7dbl_1": (c7, 768, 1, 1), "7x7dbl_2": (c7, c7, 7, 1), "7x7dbl_3": (c7, c7, 1, 7)},
            **{"7x7dbl_4": (c7, c7, 7, 1), "7x7dbl_5": (192, c7, 1, 7)},
            _pool=(192, 768, 1, 1),
        )
    block(
        "Mixed_7a",
        **{"3x3_1": (192, 768, 1, 1), "3x3_2": (320, 192, 3, 3), "7x7x3_1": (192, 768, 1, 1)},
        **{"7x7x3_2": (192, 192, 1, 7), "7x7x3_3": (192, 192, 7, 1), "7x7x3_4": (192, 192, 3, 3)},
    )
    for name, inner in (("7b", 1280), ("7c", 2048)):
        block(
            f"Mixed_{name}",
            **{"1x1": (320, inner, 1, 1), "3x3_1": (384, inner, 1, 1), "3x3_2a": (384, 384, 1, 3)},
            **{"3x3_2b": (384, 384, 3, 1), "3x3dbl_1": (448, inner, 1, 1), "3x3dbl_2": (384, 448, 3, 3)},
            **{"3x3dbl_3a": (384, 384, 1, 3), "3x3dbl_3b": (384, 384, 3, 1)},
            _pool=(192, inner, 1, 1),
        )
    shapes = {f"{name}.conv.weight": shape for name, shape in convolutions.items()}
    for name, shape in convolutions.items():
        shapes |= {f"{name}.bn.{part}": shape[:1] for part in ("weight", "bias", "running_mean", "running_var")}
    return shapes | {"fc.weight": (1008, 2048), "fc.bias": (1008,)}


def test_the_published_file_is_as_large_as_its_table_says():
    shapes = published_shapes()
    assert len(shapes) == 94 * 5 + 2
    assert 4 * sum(int(np.prod(shape)) for shape in shapes.values()) / 1e6 == pytest.approx(WEIGHTS.megabytes, abs=1)


class Small(torch.nn.Module):
    """Loads as torch-fidelity's network does: unpickles what it is given, then all names must fit."""

    def __init__(self, _name, _features, feature_extractor_weights_path):
        super().__init__()
        self.conv, self.bn = torch.nn.Conv2d(3, 4, 1, bias=False), torch.nn.BatchNorm2d(4)
        self.load_state_dict(torch.load(feature_extractor_weights_path))


@pytest.mark.parametrize("tracked", [True, False])
def test_files_with_and_without_counters_of_batches_load(tmp_path, monkeypatch, tracked):
    """The converter writes none, networks save some: both are published under the one name."""
    monkeypatch.setattr(inception, "_network_type", lambda: Small)
    weights = {"conv.weight": torch.ones(4, 3, 1, 1)}
    weights |= {f"bn.{name}": torch.full((4,), 2.0) for name in ("weight", "bias", "running_mean", "running_var")}
    weights |= {"bn.num_batches_tracked": torch.tensor(5)} if tracked else {}
    torch.save(weights, tmp_path / "w.pth")
    extractor = get_extractor(f"inception:{tmp_path / 'w.pth'}")
    assert torch.equal(extractor.net.bn.running_mean, weights["bn.running_mean"])
    torch.save({**weights, "bn.other": torch.zeros(4)}, tmp_path / "w.pth")
    with pytest.raises(ModelFileError, match=r"bn\.other"):
        get_extractor(f"inception:{tmp_path / 'w.pth'}")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Random weights under the real names; skipped where torch-fidelity cannot be imported."""
    # exc_type: a torchvision of another build than torch fails with a RuntimeError.
    module = pytest.importorskip(
        "torch_fidelity.feature_extractor_inceptionv3", reason="torch-fidelity cannot be imported", exc_type=Exception
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        torch.manual_seed(0)
        net = module.FeatureExtractorInceptionV3("random", ["2048"])
    path = tmp_path_factory.mktemp("weights") / "weights-inception.pth"
    torch.save(net.state_dict(), path)
    return path


def test_features_are_those_of_torch_fidelity(file):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    images = np.random.default_rng(0).uniform(-1200, 1200, (2, 40, 48)).astype(np.float32)
    extractor = get_extractor(f"inception:{file}")
    found = extractor.features(images, 1.0)
    net = FeatureExtractorInceptionV3("ours", ["2048"], feature_extractor_weights_path=str(file))
    np.testing.assert_array_equal(found, net(to_rgb(torch.from_numpy(images)))[0].numpy())
    assert found.std(axis=0).max() > 0
    assert (extractor.name, extractor.dimensions) == ("inception", 2048)
    assert extractor.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert extractor.features(images[:0], 1.0).shape == (0, 2048)


def test_the_network_has_the_names_and_shapes_of_the_published_file(file):
    own = {name: tuple(tensor.shape) for name, tensor in torch.load(file, weights_only=True).items()}
    assert {name: s for name, s in own.items() if not name.endswith("num_batches_tracked")} == published_shapes()


def test_weights_of_another_network_are_refused(file, tmp_path):
    weights = torch.load(file, weights_only=True)
    del weights["Mixed_7c.branch1x1.conv.weight"]
    path = tmp_path / "other.pth"
    torch.save(weights, path)
    with pytest.raises(ModelFileError, match="Mixed_7c"):
        get_extractor(f"inception:{path}")

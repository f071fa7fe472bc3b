"""InceptionV3 of the usual FID: what it is given, and that torch-fidelity's real network loads weights safely."""

from __future__ import annotations

import hashlib
import sys

import numpy as np
import pytest
import torch

from CTDiffusionLogic.errors import ModelFileError, ResourceError
from CTDiffusionLogic.fidelity.extractors import get_extractor
from CTDiffusionLogic.fidelity.extractors.inception import to_rgb


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


def test_weights_of_another_network_are_refused(file, tmp_path):
    weights = torch.load(file, weights_only=True)
    del weights["Mixed_7c.branch1x1.conv.weight"]
    path = tmp_path / "other.pth"
    torch.save(weights, path)
    with pytest.raises(ModelFileError, match="Mixed_7c"):
        get_extractor(f"inception:{path}")

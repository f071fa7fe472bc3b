"""What given slices tell: where along the body they lie, and where the body lies in them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from CTDiffusionLogic.bundle import load_body_net, load_model, save_model
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.generation_request import GenerationRequest, resolve
from CTDiffusionLogic.given_slices import see_body

SIZE, PIXEL_MM = 64, 6.0
CARD = {
    "stages": {"anatomy": {}, "detail": {}},
    "plan": {
        "image_size": SIZE,
        "anatomy_size": 16,
        "fov_mm": SIZE * PIXEL_MM,
        "anatomy_gap_mm": 6.0,
        "max_gap_mm": 36.0,
        "body_mm_range": [0.0, 500.0],
        "body_boxes_mm": [[0.0, 500.0, -100.0, 100.0, -150.0, 150.0]],
    },
}


class BrightnessNet(BodyPositionNet):
    """Names a position that rises with the mean intensity, 100 mm per unit."""

    def forward(self, slices, pixel_mm):
        assert slices.shape[1:] == (32, 32)
        assert torch.allclose(pixel_mm, torch.tensor(2 * PIXEL_MM))
        return slices.mean(dim=(1, 2))


def body(hu, *, top=16, bottom=48, left=8, right=56):
    pixels = np.full((SIZE, SIZE), -1000, dtype=np.int16)
    pixels[top:bottom, left:right] = hu
    return pixels


def test_the_middle_of_the_volume_follows_from_each_slice():
    one = {10: body(40)}
    low = see_body(BrightnessNet(), one, slices=21, spacing_mm=5.0, pixel_mm=PIXEL_MM).body_mm
    shifted = see_body(BrightnessNet(), {4: body(40)}, slices=21, spacing_mm=5.0, pixel_mm=PIXEL_MM).body_mm
    assert shifted - low == pytest.approx(30.0), "six slices lower in the volume: its middle lies 30 mm higher"
    # Three slices of one look vote for middles 50 mm apart; the middle one counts.
    three = see_body(BrightnessNet(), {0: body(40), 10: body(40), 20: body(40)}, slices=21, spacing_mm=5.0,
                     pixel_mm=PIXEL_MM)  # fmt: skip
    assert three.body_mm == pytest.approx(low)


@pytest.mark.parametrize("numbers", [[5], [0, 1, 2], [3, 9]])
def test_the_body_box_is_that_of_the_slices(numbers):
    box = see_body(
        BrightnessNet(), {n: body(40) for n in numbers}, slices=12, spacing_mm=3.0, pixel_mm=PIXEL_MM
    ).body_box
    assert np.allclose(box, np.array([16, 48, 8, 56]) / SIZE, atol=1.5 / SIZE)


def test_a_request_with_given_slices_takes_what_they_show():
    request = GenerationRequest(slices=12, spacing_mm=3.0, known={3: body(40)})
    seen = see_body(BrightnessNet(), {3: body(40)}, slices=12, spacing_mm=3.0, pixel_mm=PIXEL_MM)
    settings = resolve(request, CARD, slices=12, spacing_mm=3.0, body_net=BrightnessNet())
    assert settings.body_mm == pytest.approx(seen.body_mm)
    assert settings.body_box == pytest.approx(seen.body_box)
    blind = resolve(request, CARD, slices=12, spacing_mm=3.0)
    assert np.isnan(blind.body_mm)
    assert np.isnan(blind.body_box).all()


def test_extending_a_scan_beyond_what_the_model_knows_is_said():
    request = GenerationRequest(slices=100, spacing_mm=3.0, known={0: body(40)})
    settings = resolve(request, CARD, slices=100, spacing_mm=3.0, body_net=BrightnessNet())
    assert settings.body_mm == pytest.approx(see_body(BrightnessNet(), request.known, slices=100, spacing_mm=3.0,
                                                      pixel_mm=PIXEL_MM).body_mm)  # fmt: skip
    assert any("the model has learnt 0 to 500 mm" in w for w in settings.warnings)


def test_the_network_comes_from_the_model_file(tmp_path):
    torch.manual_seed(0)
    net = BodyPositionNet()
    save_model(tmp_path / "a.safetensors", {f"body.{k}": t for k, t in net.state_dict().items()}, CARD)
    loaded = load_body_net(load_model(tmp_path / "a.safetensors"))
    slices, pixel = torch.randn(2, 32, 32), torch.full((2,), 12.0)
    assert torch.allclose(loaded(slices, pixel), net(slices, pixel), atol=1e-2)  # float16 in the file
    save_model(tmp_path / "b.safetensors", {"body.other": torch.zeros(3)}, CARD)
    with pytest.raises(ModelFileError, match=r"b\.safetensors: the weights of its body position network do not fit"):
        load_body_net(load_model(tmp_path / "b.safetensors"))
    save_model(tmp_path / "c.safetensors", {"anatomy.x": torch.zeros(3)}, CARD)
    assert load_body_net(load_model(tmp_path / "c.safetensors")) is None

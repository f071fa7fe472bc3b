"""The section's choice of the matrix: what can be chosen when, and what the bundled models make of it."""

from __future__ import annotations

import numpy as np
import pytest
import slicer
import torch
from CTDiffusionLib import GenerateEstimate, Provenance
from generate_section import GenerateSection, volumes
from random_model import write_random_fine_model, write_random_model

from CTDiffusionLogic import models
from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.denoiser.coarse import upsample


@pytest.fixture
def panel(host, monkeypatch):
    return GenerateSection(host, monkeypatch)


def test_the_larger_matrix_of_the_bundled_fine_model(panel, model, tmp_path, monkeypatch):
    def estimated(fine):
        card = read_header(model).card
        return GenerateEstimate.estimate(card, panel.panel.request(), device="cpu", fine=fine).text

    ui, bundled = panel.ui, {}
    monkeypatch.setattr(models, "bundled_fine_model", lambda: bundled)
    panel.choose(model)
    assert (ui.matrixComboBox.enabled, ui.matrixComboBox.currentText) == (False, "As the model makes it (64)")
    assert ui.matrixComboBox.toolTip == "No fine model comes with this installation."
    bundled["fine"] = write_random_fine_model(tmp_path / "fine.safetensors", steps=4)
    panel.choose(model)
    fine = read_header(bundled["fine"]).card
    assert ui.matrixComboBox.enabled
    request = panel.panel.request()
    assert (request.matrix, request.fineSteps) == (None, None)
    panel.host.choose(ui.matrixComboBox, "128 x 128 (finer, slower)")
    assert ui.modelInfoLabel.text.startswith("128 x 128 pixels of 3 mm")
    assert ui.modelInfoLabel.text.endswith("Refined from 64 x 64 by the fine model finer.")
    request = panel.panel.request()
    assert (request.matrix, request.fineSteps) == (128, None)
    assert "--matrix=128" in request.words(tmp_path, isLike=False)
    ui.slicesSpinBox.value = 1000  # so that words for people tell the two apart
    assert ui.estimateLabel.text.startswith(estimated(fine))
    assert estimated(fine) != estimated(None)
    panel.host.choose(ui.qualityComboBox, "draft (faster)")
    assert panel.panel.request().fineSteps == 2
    panel.host.saveScene(tmp_path / "scene.mrml")
    panel.host.closeScene()
    panel.choose(model)
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (None, "As the model makes it (64)")
    panel.host.loadScene(tmp_path / "scene.mrml")
    panel.widget.enter()
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (128, "128 x 128 (finer, slower)")
    # Another model, which it does not go with: what was chosen is kept for the next one that it does go with.
    panel.choose(write_random_model(tmp_path / "larger.safetensors", image_size=128))
    assert not ui.matrixComboBox.enabled
    assert "makes 128 x 128 pixels of 64 x 64; those of the chosen model are 128 x 128" in ui.matrixComboBox.toolTip
    assert (panel.panel.request().matrix, ui.matrixComboBox.currentText) == (None, "As the model makes it (128)")
    panel.choose(model)
    assert (panel.panel.request().matrix, panel.panel.request().fineSteps) == (128, 2)
    broken = tmp_path / "text.safetensors"
    broken.write_text("not a model")
    panel.choose(broken)
    assert (ui.matrixComboBox.enabled, ui.matrixComboBox.toolTip) == (False, ui.modelInfoLabel.text)
    bundled["fine"] = model  # no fine model, under its name
    panel.choose(model)
    assert "is not a fine model" in ui.matrixComboBox.toolTip
    assert panel.panel.request().matrix is None


def test_512_x_512_by_the_bundled_models(panel):
    """Both as they come with the module, in a real worker: the same torso with and without the larger matrix."""
    ui = panel.ui
    base, fine = (read_header(path) for path in (models.find_model(), models.find_fine_model()))
    few = {"slicesSpinBox": 2, "spacingSpinBox": 3.0, "stepsSpinBox": 4, "detailStepsSpinBox": 1, "seedSpinBox": 4}
    ui.randomSeedCheckBox.checked = False
    for name, value in few.items():
        getattr(ui, name).value = value
    panel.host.choose(ui.qualityComboBox, "draft (faster)")
    assert panel.end(panel.start()).startswith("Done: SYNTHETIC torso seed 4.")
    panel.host.choose(ui.matrixComboBox, "512 x 512 (finer, slower)")
    run, said = panel.start(), set()
    run.progressed.connect(lambda _event: said.add(ui.generateStatusLabel.text))
    assert panel.end(run).startswith("Done: SYNTHETIC torso seed 4")
    assert any("larger matrix" in words for words in said), said
    coarse, node = volumes()
    assert run.nodes() == [node]
    assert panel.compare.syntheticVolumeSelector.currentNode() is node
    own, hu = (slicer.util.arrayFromVolume(one) for one in (coarse, node))
    assert (own.shape, hu.shape, hu.dtype) == ((2, 256, 256), (2, 512, 512), np.int16)
    # Half the pixels in the same field of view.
    pixel = base.card["plan"]["pixel_mm"]
    np.testing.assert_allclose(coarse.GetSpacing(), (pixel, pixel, 3.0))
    np.testing.assert_allclose(node.GetSpacing(), (pixel / 2, pixel / 2, 3.0))
    bounds = [[0.0] * 6 for _ in range(2)]
    coarse.GetRASBounds(bounds[0])
    node.GetRASBounds(bounds[1])
    np.testing.assert_allclose(bounds[1], bounds[0])
    # A body in air, and the same one, with more in it than its upsampled images have.
    assert hu.min() >= -1024 and hu.max() <= 3071
    assert np.median(hu[:, :48, :48]) < -900
    body = own > -300
    assert 0.08 < body.mean() < 0.6
    assert -120 < np.median(hu[hu > -300]) < 120
    averaged = hu.reshape(2, 256, 2, 256, 2).mean(axis=(2, 4))
    assert np.corrcoef(averaged.ravel(), own.ravel())[0, 1] > 0.99
    upsampled = upsample(torch.from_numpy(own.astype(np.float32)), hu.shape[1:]).numpy()
    assert grain(hu)[body].std() > 2 * grain(upsampled)[body].std()
    facts = Provenance.provenance(node)
    assert (facts["Model"], facts["ModelSha256"], facts["Complete"]) == (base.name, base.sha256, "yes")
    assert (facts["FineModel"], facts["FineModelSha256"]) == (fine.name, fine.sha256)
    assert int(facts["FineSteps"]) == round(GenerateEstimate.stepsOf(fine.card)[1] / 2)
    assert "FineModel" not in Provenance.provenance(coarse)


def grain(hu):
    """What differs crosswise within blocks of 2 x 2 pixels, HU: next to nothing in smooth images."""
    hu = hu.astype(np.float32)
    return (hu[:, ::2, ::2] - hu[:, ::2, 1::2] - hu[:, 1::2, ::2] + hu[:, 1::2, 1::2]) / 2

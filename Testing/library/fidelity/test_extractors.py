"""Extractors: found by name or file, one interface, weights that are checked before they are used."""

from __future__ import annotations

import json
import os
import struct

import numpy as np
import pytest
import torch
from random_model import write_random_model

from CTDiffusionLogic.errors import ModelFileError, ResourceError, UsageError
from CTDiffusionLogic.fidelity.extractors import EXTRACTORS, get_extractor
from CTDiffusionLogic.fidelity.extractors.base import checked_images
from CTDiffusionLogic.fidelity.extractors.ctfeatures import FeatureNet
from CTDiffusionLogic.fidelity.extractors.feature_file import load_feature_file, save_feature_file
from CTDiffusionLogic.fidelity.extractors.published_weights import read_weights

WIDTHS = (4, 6, 8, 10)
CARD = {"architecture": {"widths": list(WIDTHS), "components": 5}, "training": {"seed": 3}}


@pytest.fixture
def file(tmp_path):
    """A small network in a file."""
    torch.manual_seed(0)
    path = tmp_path / "net.safetensors"
    save_feature_file(path, FeatureNet(WIDTHS, 5).state_dict(), CARD)
    return path


@pytest.mark.parametrize("name", ["resnet", "", "ctfeature", "weights.pth", "vgg:file.pth"])
def test_unknown_names_are_refused_with_the_known_ones(name):
    with pytest.raises(UsageError) as caught:
        get_extractor(name)
    assert all(known in str(caught.value) for known in EXTRACTORS)


def test_radiomics_takes_no_file():
    with pytest.raises(UsageError, match="no weights"):
        get_extractor("radiomics:file.pth")


@pytest.mark.parametrize(
    ("images", "pixel_mm"),
    [
        (np.zeros((4, 4)), 1.0),
        (np.zeros((1, 1, 4, 4)), 1.0),
        (np.zeros((2, 0, 4)), 1.0),
        (np.full((1, 4, 4), np.nan), 1.0),
        (np.full((1, 4, 4), np.inf), 1.0),
        (np.zeros((1, 4, 4)), 0.0),
        (np.zeros((1, 4, 4)), np.nan),
    ],
)
def test_images_that_are_none_are_refused(images, pixel_mm):
    with pytest.raises(ValueError, match=r"images|pixel_mm"):
        checked_images(images, pixel_mm)


def test_a_network_of_ones_own_has_a_name_of_its_own(file):
    by_path, by_name = get_extractor(file), get_extractor(f"ctfeatures:{file}")
    assert by_path.sha256 == by_name.sha256 == load_feature_file(file).sha256
    assert by_path.name == by_name.name == f"ctfeatures:{by_path.sha256[:8]}"
    assert by_path.dimensions == 5
    assert by_path.features(np.zeros((3, 40, 50), np.float32), 1.0).shape == (3, 5)


def test_equal_networks_give_equal_bytes_and_what_is_read_is_what_was_written(file, tmp_path):
    read = load_feature_file(file)
    again = tmp_path / "again.safetensors"
    assert save_feature_file(again, dict(reversed(read.tensors.items())), CARD) == read.sha256
    assert again.read_bytes() == file.read_bytes()
    assert read.card == CARD
    assert read.tensors["body.conv1.weight"].dtype == torch.float16
    assert read.tensors["body.bn1.running_var"].dtype == torch.float32  # too small for float16, some of them


def test_a_weight_that_is_no_number_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="weight"):
        save_feature_file(tmp_path / "a.safetensors", {"weight": torch.tensor([[1e9]])}, CARD)
    assert not list(tmp_path.iterdir())


def _cut(data: bytes) -> bytes:
    return data[:-100]


def _cut_in_the_header(data: bytes) -> bytes:
    return data[:60]


def _appended(data: bytes) -> bytes:
    return data + b"0"


def _weight_changed(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _card_changed(data: bytes) -> bytes:
    assert data.count(b"seed") == 1
    place = data.index(b"seed") + data[data.index(b"seed") :].index(b"3")
    return data[:place] + b"4" + data[place + 1 :]


def _newer(data: bytes) -> bytes:
    return data.replace(rb"\"format_version\":1", rb"\"format_version\":2")


def _empty(_data: bytes) -> bytes:
    return b""


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (_cut, "broken"),
        (_cut_in_the_header, "broken"),
        (_appended, "broken"),
        (_weight_changed, "damaged or was edited"),
        (_card_changed, "damaged or was edited"),
        (_newer, "Update CTDiffusion"),
        (_empty, "broken"),
    ],
)
def test_damaged_files_are_refused(file, damage, said):
    before = file.read_bytes()
    file.write_bytes(damage(before))
    assert file.read_bytes() != before
    with pytest.raises(ModelFileError, match=said) as caught:
        get_extractor(file)
    assert str(file) in caught.value.message


def test_other_files_are_refused(file, tmp_path):
    with pytest.raises(ModelFileError, match="no file"):
        get_extractor(tmp_path / "none.safetensors")
    generator = tmp_path / "generator.safetensors"
    write_random_model(generator)
    with pytest.raises(ModelFileError, match="something else"):
        get_extractor(generator)
    pickled = tmp_path / "pickled.safetensors"
    torch.save({"a": torch.zeros(1)}, pickled)
    with pytest.raises(ModelFileError, match="broken"):
        get_extractor(pickled)
    # Whole and unchanged, but the card is not that of the weights.
    tensors = load_feature_file(file).tensors
    for widths, components in (([4, 6, 8, 12], 5), ([10**9] * 4, 5), ([4, 6, 8, 10], 6), ([4, 6, 8], 5), (None, 5)):
        save_feature_file(file, tensors, {"architecture": {"widths": widths, "components": components}})
        with pytest.raises(ModelFileError, match="cannot be built"):
            get_extractor(file)


@pytest.mark.parametrize("name", ["inception", "radimagenet"])
def test_weights_that_are_not_here_are_not_fetched(name, monkeypatch, tmp_path):
    if name == "inception":
        pytest.importorskip("torch_fidelity", reason="torch-fidelity is not installed", exc_type=Exception)
    monkeypatch.setenv("CTDIFFUSION_WEIGHTS", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("downloads"))
    with pytest.raises(ResourceError) as caught:
        get_extractor(name)
    for part in ("nothing is downloaded", "https://", " MB", str(tmp_path), f"{name}:FILE"):
        assert part in str(caught.value)


def test_an_agreed_download_that_fails_leaves_nothing(monkeypatch, tmp_path):
    def refuse(_url, target, **_):
        with open(target, "wb") as stream:  # noqa: PTH123
            stream.write(b"half")
        raise OSError("no network")

    monkeypatch.setenv("CTDIFFUSION_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(ResourceError, match="could not be downloaded"):
        get_extractor("radimagenet", allow_download=True)
    assert not list((tmp_path / "weights").iterdir())


class Evil:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.path,)


def test_weights_files_run_no_code(tmp_path):
    bad = tmp_path / "bad.pth"
    torch.save({"a": Evil(str(tmp_path / "ran"))}, bad)
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_weights(bad)
    assert not (tmp_path / "ran").exists()


def test_weights_files_hold_tensors_and_nothing_else(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}}, path)
    assert read_weights(path)["a"].tolist() == [1.0, 1.0]
    torch.save({"a": 1}, path)
    with pytest.raises(ModelFileError, match="no plain list of tensors"):
        read_weights(path)
    path.write_bytes(b"no weights")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_weights(path)
    header = json.dumps({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}).encode()
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(struct.pack("<Q", len(header)) + header + b"0000")
    with pytest.raises(ModelFileError, match="cannot be read"):
        read_weights(cut)

"""The model file: what is saved comes back, equal bytes for equal models, and every wrong file is refused by name."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from CTDiffusionLogic.bundle import (
    FORMAT_VERSION,
    ModelFile,
    describe,
    load_denoisers,
    load_model,
    read_header,
    save_model,
)
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.denoiser.network import DenoiserConfig, SlabDenoiser
from CTDiffusionLogic.errors import ModelFileError, OutputError


@pytest.fixture(scope="module")
def denoisers() -> dict[str, SlabDenoiser]:
    torch.manual_seed(3)
    return {
        stage: SlabDenoiser(
            DenoiserConfig(stage=stage, slices=4, channels=(32, 32), layers=1, attention=stage == "anatomy")
        )
        for stage in ("anatomy", "detail")
    }


@pytest.fixture(scope="module")
def tensors(denoisers) -> dict[str, torch.Tensor]:
    return {f"{stage}.{name}": t for stage, net in denoisers.items() for name, t in net.state_dict().items()}


@pytest.fixture(scope="module")
def card(denoisers) -> dict:
    return {
        "name": "tiny",
        "description": "Weights drawn at random, for tests é.",
        "stages": {stage: net.config.to_dict() for stage, net in denoisers.items()},
        "plan": {"image_size": 32, "pixel_mm": 1.75},
        "limits": ["Generates noise only."],
    }


@pytest.fixture
def model_path(tmp_path, tensors, card) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, tensors, card)
    return path


def conditions(batch: int = 1, k: int = 4, size: int = 16, *, detail: bool = False) -> SlabConditions:
    return SlabConditions(
        known=torch.zeros(batch, k, size, size),
        mask=torch.zeros(batch, k),
        offsets_mm=torch.linspace(-4.5, 4.5, k).expand(batch, k),
        body_mm=torch.full((batch,), 400.0),
        pixel_mm=torch.full((batch,), 7.0),
        label=torch.zeros(batch, dtype=torch.int64),
        coarse=torch.zeros(batch, k, size, size) if detail else None,
        coarse_noise=torch.zeros(batch) if detail else None,
    )


def test_weights_and_card_come_back(model_path, tensors, card):
    model = load_model(model_path)
    assert model.card == card
    assert model.name == "tiny"
    assert model.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(model.tensors[name], tensor.to(torch.float16)), name


def test_denoisers_compute_what_they_computed_before_saving(model_path, denoisers):
    loaded = load_denoisers(load_model(model_path))
    for stage, net in zip(("anatomy", "detail"), loaded, strict=True):
        assert not net.training
        assert net.config == denoisers[stage].config
        x, t = torch.randn(1, 4, 16, 16), torch.full((1,), 0.5)
        with torch.no_grad():
            before = denoisers[stage].eval()(x, t, conditions(detail=stage == "detail"))
            after = net(x, t, conditions(detail=stage == "detail"))
        assert (before - after).abs().max() < 5e-3  # float16 rounding of the weights, not more


def test_networks_are_built_of_the_file_and_of_nothing_drawn_at_random(model_path, denoisers):
    model = load_model(model_path)
    state = torch.get_rng_state()
    loaded = load_denoisers(model)
    assert torch.equal(torch.get_rng_state(), state), "weights that are overwritten at once are not drawn"
    for stage, net in zip(("anatomy", "detail"), loaded, strict=True):
        own, stored = denoisers[stage].state_dict(), model.tensors
        for name, weight in net.state_dict().items():
            assert torch.equal(weight, stored[f"{stage}.{name}"].float()), name
            assert weight.dtype == torch.float32 and weight.stride() == own[name].stride(), f"the layout of {name}"
            assert not weight.requires_grad


def test_equal_models_give_equal_bytes(tmp_path):
    # The library alone gives the header another order from call to call (a Rust HashMap, seeded anew each time).
    tensors = {f"{stage}.w{i}": torch.full((i + 1,), i / 3) for stage in ("detail", "anatomy") for i in range(4)}
    card = {"stages": {"detail": {}, "anatomy": {}}, "name": "x", "plan": {"b": 1, "a": 2.5}}
    reordered = {"plan": {"a": 2.5, "b": 1}, "name": "x", "stages": {"anatomy": {}, "detail": {}}}
    path = tmp_path / "x.safetensors"
    contents = set()
    for n in range(10):
        save_model(path, dict(sorted(tensors.items(), reverse=n % 2 == 0)), reordered if n % 3 else card)
        contents.add(path.read_bytes())
    assert len(contents) == 1


def test_card_is_read_without_torch(model_path):
    script = (
        "import sys; from CTDiffusionLogic.bundle import read_header, describe; h = read_header(sys.argv[1]);"
        "print(describe(h)); sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, model_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Generates noise only." in done.stdout
    assert load_model(model_path).sha256 in done.stdout


def test_describe_shows_every_entry_of_the_card(model_path):
    text = describe(read_header(model_path))
    for word in ("tiny", "image size: 32", "pixel mm: 1.75", "channels: 32, 32", "million weights"):
        assert word in text


def refuse(path: Path, *words: str) -> None:
    for read in (read_header, load_model):
        with pytest.raises(ModelFileError) as caught:
            read(path)
        assert str(path) in caught.value.message
        for word in words:
            assert word in caught.value.message, caught.value.message
        assert "\n" not in str(caught.value)
        assert caught.value.remedy


@pytest.mark.parametrize("kept", [0.999, 0.5, 0.02, 0.0005])
def test_truncated(model_path, kept):
    content = model_path.read_bytes()
    model_path.write_bytes(content[: int(len(content) * kept)])
    refuse(model_path, "cut off" if len(content) * kept > 16 else "safetensors")


def test_appended(model_path):
    model_path.write_bytes(model_path.read_bytes() + b"\0")
    refuse(model_path, "appended")


def test_one_flipped_bit_in_the_weights(model_path):
    content = bytearray(model_path.read_bytes())
    content[-1000] ^= 1
    model_path.write_bytes(content)
    refuse(model_path, "damaged or edited")


def test_edited_card(model_path):
    content = model_path.read_bytes()
    edited = content.replace(b"Generates noise only.", b"Generates diagnoses!!")
    assert edited != content
    model_path.write_bytes(edited)
    refuse(model_path, "damaged or edited")


def rewrite_header(path: Path, change) -> None:
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    entries = json.loads(content[8 : 8 + length])
    change(entries)
    header = json.dumps(entries).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + content[8 + length :])


def test_swapped_tensors(model_path):
    def swap(entries):
        a, b = "anatomy.unet.conv_in.bias", "anatomy.unet.conv_norm_out.bias"
        entries[a], entries[b] = entries[b], entries[a]

    rewrite_header(model_path, swap)
    refuse(model_path, "damaged or edited")


def test_newer_format(model_path):
    rewrite_header(model_path, lambda e: e["__metadata__"].update(format_version=str(FORMAT_VERSION + 1)))
    refuse(model_path, f"format {FORMAT_VERSION + 1}")


@pytest.mark.parametrize("version", ["", "one", "-1", "9" * 400])
def test_nonsense_version(model_path, version):
    rewrite_header(model_path, lambda e: e["__metadata__"].update(format_version=version))
    refuse(model_path, "version")


def test_other_safetensors(tmp_path):
    save_file({"anatomy.w": torch.zeros(3)}, tmp_path / "llm.safetensors", metadata={"format": "pt"})
    refuse(tmp_path / "llm.safetensors", "something else")


def test_pickles_are_recognised_and_not_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for name, legacy in (("new.pt", False), ("old.pt", True)):
        torch.save({"w": torch.zeros(3), "x": Bomb()}, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        refuse(tmp_path / name, "pickle")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"hello, this is a text file\n" * 9, b"\xff" * 100, struct.pack("<Q", 2**60) + b"{" * 99],
)
def test_not_safetensors(tmp_path, content):
    path = tmp_path / "notes.safetensors"
    path.write_bytes(content)
    refuse(path, "not a CTDiffusion model")


@pytest.mark.parametrize("header", [b"{not json}", b"{" * 3000, b'{"a": 5}', b'{"a": {"shape": [1]}}', b"[1, 2, 3]"])
def test_broken_header(tmp_path, header):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refuse(path)


def test_missing_and_folder(tmp_path):
    refuse(tmp_path / "no.safetensors", "no model file")
    refuse(tmp_path, "folder")


def test_wrong_shapes_are_named(tmp_path, tensors, card):
    path = tmp_path / "wide.safetensors"
    wrong = {**tensors, "anatomy.unet.conv_in.bias": torch.zeros(99)}
    save_model(path, wrong, card)
    with pytest.raises(ModelFileError, match=r"anatomy\.unet\.conv_in\.bias has the shape \(99,\)"):
        load_denoisers(load_model(path))


def test_missing_and_surplus_weights_are_named(tmp_path, tensors, card):
    less = {name: t for name, t in tensors.items() if name != "detail.unet.conv_in.bias"}
    save_model(tmp_path / "less.safetensors", less, card)
    with pytest.raises(ModelFileError, match=r"detail\.unet\.conv_in\.bias.*missing"):
        load_denoisers(load_model(tmp_path / "less.safetensors"))
    save_model(tmp_path / "more.safetensors", {**tensors, "detail.extra": torch.zeros(1)}, card)
    with pytest.raises(ModelFileError, match=r"detail\.extra.*no such weight"):
        load_denoisers(load_model(tmp_path / "more.safetensors"))


@pytest.mark.parametrize(
    "change",
    [{"slices": 10**12}, {"channels": [10**12]}, {"channels": "wide"}, {"unheard_of": 1}, {"channels": []}, {}],
)
def test_architectures_that_cannot_be_built(model_path, change):
    model = load_model(model_path)
    config = {**model.card["stages"]["anatomy"], **change} if change else {}
    card = {**model.card, "stages": {**model.card["stages"], "anatomy": config}}
    with pytest.raises(ModelFileError, match="anatomy"):
        load_denoisers(ModelFile(card, model.sha256, model.shapes, model.path, model.tensors))


def test_what_cannot_be_stored(tmp_path, tensors, card):
    path = tmp_path / "x.safetensors"
    with pytest.raises(ValueError, match=r"anatomy\.big has values that are not finite"):
        save_model(path, {"anatomy.big": torch.full((2,), 1e9)}, card)
    with pytest.raises(ValueError, match=r"fingerprints and a dot, got 'other\.w'"):
        save_model(path, {"other.w": torch.zeros(2)}, card)
    with pytest.raises(ValueError, match="stages"):
        save_model(path, tensors, {"name": "no stages"})
    with pytest.raises(ValueError, match="JSON"):
        save_model(path, tensors, {**card, "loss": float("nan")})
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        save_model(tmp_path / "file" / "x.safetensors", tensors, card)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_shared_and_strided_weights_are_stored_by_value(tmp_path, card):
    base = torch.arange(12.0).reshape(3, 4)
    save_model(tmp_path / "x.safetensors", {"anatomy.a": base, "detail.b": base, "detail.c": base.T}, card)
    tensors = load_model(tmp_path / "x.safetensors").tensors
    assert torch.equal(tensors["detail.b"].float(), base)
    assert torch.equal(tensors["detail.c"].float(), base.T)

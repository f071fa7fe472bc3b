"""A corpus packed in one file comes back as it was, names nobody, and is refused when it is not what was packed."""

import hashlib
import io
import json
import math
import struct
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from CTDiffusionLogic.corpus import pack as pack_module
from CTDiffusionLogic.corpus.body_position import BodyPositionNet
from CTDiffusionLogic.corpus.pack import neutral_plan, read_pack, unpack, write_pack
from CTDiffusionLogic.corpus.pack_options import PackOptions
from CTDiffusionLogic.corpus.plan import CorpusPlan, ScanPlan
from CTDiffusionLogic.corpus.prepare import PreparedCorpus
from CTDiffusionLogic.corpus.slice_codec import block_of, decode_slices, encode_slices
from CTDiffusionLogic.errors import Cancelled, InputError, OutputError, UsageError
from CTDiffusionLogic.phantom import torso_phantom

SIZE = 64
#: Scan, patient, slices: two of one patient.
SCANS = (("mueller_hans_1", "mueller^hans", 9), ("doe_jane", "doe^jane", 40), ("mueller_hans_2", "mueller^hans", 17))
LOSSLESS = PackOptions(hu_step=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> PreparedCorpus:
    """Three noisy scans with air and metal."""
    cache = tmp_path_factory.mktemp("secret-folder") / "cache"
    cache.mkdir()
    rng = np.random.default_rng(0)
    scans = []
    for number, (name, patient, slices) in enumerate(SCANS):
        hu = torso_phantom(slices=slices, size=SIZE, spacing_mm=(6.5, 6.5, 5.0), seed=number).hu
        hu = np.clip(hu + rng.normal(0, 12, hu.shape).astype(np.int16), -1024, 3071)
        hu[:, :4], hu[:, -1, -1] = -1024, 3071
        np.save(cache / f"{name}.npy", hu)
        scans.append(
            ScanPlan(
                id=name, patient=patient, label=number % 2, split="held-out" if name == "doe_jane" else "train",
                slices=slices, gap_mm=5.0, pixel_mm=6.5, native_pixel_mm=0.7, body_rows=(4, 60), body_columns=(2, 62),
                body_box=(0.1, 0.9, 1 / 3, 0.9), body_mm=math.pi * number, source=f"/data/{patient}/{name}.nii.gz",
                stamp="1234567",
            )
        )  # fmt: skip
    plan = CorpusPlan(
        image_size=SIZE, anatomy_size=32, fov_mm=416.0, anatomy_gap_mm=6.0, max_gap_mm=36.0, labels=("torso",),
        sigma_data={"anatomy": 1 / 3, "detail": 0.5}, residual_scale=0.2, scans=tuple(scans),
        skipped=(("/data/secret-folder/late.nii.gz", "is broken"),),
    )  # fmt: skip
    torch.manual_seed(0)
    return PreparedCorpus(plan, cache, BodyPositionNet().eval())


@pytest.fixture(scope="module")
def packed(corpus, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "torso.ctpack"
    write_pack(path, corpus, LOSSLESS)
    return path


def slices_of(corpus: PreparedCorpus) -> list[np.ndarray]:
    return [np.load(corpus.cache / f"{scan.id}.npy") for scan in corpus.plan.scans]


def test_without_rounding_everything_comes_back_as_it_was(corpus, packed, tmp_path):
    told = []
    again = unpack(packed, tmp_path / "run", on_progress=lambda done, of: told.append((done, of)))
    assert told == [(0, 3), (1, 3), (2, 3)]
    for before, after in zip(slices_of(corpus), slices_of(again), strict=True):
        assert after.dtype == np.int16 and np.array_equal(before, after)
    assert again.plan == CorpusPlan.load(tmp_path / "run" / "plan.json") == neutral_plan(corpus.plan)
    weights = corpus.body_net.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.body_net.state_dict().items())
    assert not again.body_net.training


@pytest.mark.parametrize("step", [2, 3, 8])
def test_rounding_stays_within_half_a_step_and_has_no_bias(corpus, tmp_path, step):
    write_pack(tmp_path / "a.ctpack", corpus, PackOptions(hu_step=step))
    again = unpack(tmp_path / "a.ctpack", tmp_path / "run")
    for before, after in zip(slices_of(corpus), slices_of(again), strict=True):
        error = after.astype(float) - before
        assert np.abs(error).max() <= step / 2
        inside = (before > -1000) & (before < 3000)
        assert abs(error[inside].mean()) < 0.1
        assert error[inside].std() == pytest.approx(step / math.sqrt(12), rel=0.15 if step > 2 else 0.3)
        assert (after[before == -1024] == -1024).all(), "air is air"
        assert after.min() >= -1024 and after.max() <= 3071
    assert read_pack(tmp_path / "a.ctpack").hu_step == step


def test_rounding_makes_it_smaller(corpus, packed, tmp_path):
    write_pack(tmp_path / "a.ctpack", corpus)
    raw = sum(hu.nbytes for hu in slices_of(corpus))
    rounded, exact = (path.stat().st_size - 2**16 for path in (tmp_path / "a.ctpack", packed))  # without the network
    assert rounded < 0.85 * exact < 0.6 * raw


def test_nobody_is_named(corpus, packed):
    words = ["mueller", "hans", "doe", "jane", "secret", "/data", ".nii", "late", "1234567", str(corpus.cache)]
    with zipfile.ZipFile(packed) as archive:
        texts = [packed.read_bytes(), *(archive.read(name) for name in archive.namelist())]
        names = " ".join(archive.namelist())
    assert "late.nii" in corpus.plan.to_json(), "what is looked for is in the plan that was packed"
    for word in words:
        assert word not in names
        if len(word) > 4:  # shorter ones are in compressed bytes by chance
            assert not any(word.encode() in text for text in texts), word
    plan = read_pack(packed).plan
    told = plan.to_json()
    assert not any(word in told for word in words)
    assert [scan.patient for scan in plan.scans] == ["patient-00001", "patient-00002", "patient-00001"]
    for before, after in zip(corpus.plan.scans, plan.scans, strict=True):
        assert replace(after, id=before.id, patient=before.patient, source=before.source, stamp="1234567") == before


def test_any_tool_lists_and_shows_it(packed):
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        first = Image.open(io.BytesIO(archive.read("slices/scan-00001/000.jp2")))
        assert first.size == (SIZE, 9 * SIZE)
        told = json.loads(archive.read("pack.json"))
    assert told["format"] == "ctdiffusion-pack" and "images of patients" in told["notice"]


def test_equal_corpora_give_equal_bytes_and_digests(corpus, packed, tmp_path):
    digest = write_pack(tmp_path / "other name.ctpack", corpus, LOSSLESS)
    assert (tmp_path / "other name.ctpack").read_bytes() == packed.read_bytes()
    assert digest == read_pack(packed).sha256
    assert write_pack(tmp_path / "b.ctpack", corpus, PackOptions(hu_step=3)) != digest


def test_long_scans_are_packed_in_pieces(corpus, tmp_path, monkeypatch):
    from CTDiffusionLogic.corpus import slice_codec

    monkeypatch.setattr(slice_codec, "BLOCK_PIXELS", 7 * SIZE**2 + 1)
    assert block_of(SIZE) == 7 and block_of(2048) == 1
    write_pack(tmp_path / "a.ctpack", corpus, LOSSLESS)
    with zipfile.ZipFile(tmp_path / "a.ctpack") as archive:
        assert sum("scan-00002" in name for name in archive.namelist()) == math.ceil(40 / 7)
    again = unpack(tmp_path / "a.ctpack", tmp_path / "run")
    assert all(np.array_equal(a, b) for a, b in zip(slices_of(corpus), slices_of(again), strict=True))


def refused(path: Path, run: Path) -> str:
    """The line with which a pack is refused; nothing is left that would pass for a plan."""
    with pytest.raises(InputError) as caught:
        unpack(path, run)
    assert not (run / "plan.json").exists()
    assert str(path) in caught.value.message and caught.value.remedy
    assert "\n" not in str(caught.value)
    return caught.value.message


def test_a_cut_or_changed_file_is_refused(packed, tmp_path):
    whole, broken = packed.read_bytes(), tmp_path / "broken.ctpack"
    for cut in (10, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:cut])
        assert "broken" in refused(broken, tmp_path / "run")
    with zipfile.ZipFile(packed) as archive:
        places = {info.filename: info.header_offset + 60 for info in archive.infolist()}
    for name, place in places.items():
        changed = bytearray(whole)
        changed[place] ^= 1
        broken.write_bytes(changed)
        assert "broken" in refused(broken, tmp_path / "run"), name


def rewritten(packed: Path, out: Path, **changes: bytes | None) -> Path:
    """A copy with other members, all sound as far as zip can tell; None leaves one out."""
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(out, "w") as copy:
        for name in archive.namelist():
            content = changes.get(name.split(".")[0].split("/")[-1], archive.read(name))
            if content is not None:
                copy.writestr(name, content)
    return out


def test_an_edited_pack_is_refused(packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        told, plan = json.loads(archive.read("pack.json")), archive.read("plan.json")
        others = archive.read("slices/scan-00003/000.jp2")

    def pack(**changes) -> str:
        return refused(rewritten(packed, tmp_path / "edited.ctpack", **changes), tmp_path / "run")

    assert "plan.json is damaged or edited" in pack(plan=plan.replace(b'"held-out"', b'"train"'))
    assert "plan.json is missing" in pack(plan=None)
    assert "000.jp2 is damaged or edited" in pack(**{"000": others})
    assert "damaged or edited" in pack(pack=json.dumps({**told, "hu_step": 3}).encode())
    assert "incomplete" in pack(pack=json.dumps({**told, "members": None}).encode())
    assert "cannot be read" in pack(pack=b"[1, 2")
    assert "something else" in pack(pack=b'{"format": "other"}')
    assert "something else" in pack(pack=None)
    newer = refused(
        rewritten(packed, tmp_path / "newer.ctpack", pack=json.dumps({**told, "format_version": 9}).encode()),
        tmp_path / "run",
    )
    assert "has the pack format 9; this CTDiffusion reads up to 1" in newer


def test_names_and_sizes_in_a_plan_are_not_trusted(corpus, tmp_path, monkeypatch):
    plan = neutral_plan(corpus.plan)

    def forged(change: CorpusPlan) -> str:
        monkeypatch.setattr(pack_module, "neutral_plan", lambda _: change)
        monkeypatch.setattr(pack_module, "_cached", lambda *_: np.zeros((40, SIZE, SIZE), np.int16))
        write_pack(tmp_path / "forged.ctpack", corpus)
        return refused(tmp_path / "forged.ctpack", tmp_path / "run")

    first, *others = plan.scans
    assert "those of a pack" in forged(replace(plan, scans=(replace(first, id="../../evil"), *others)))
    assert "those of a pack" in forged(replace(plan, scans=(replace(first, id=others[0].id), *others)))
    assert "sizes" in forged(replace(plan, image_size=2**20))
    assert "000.jp2 cannot be read (it is an image of 64" in forged(replace(plan, image_size=32))
    assert not list(tmp_path.rglob("*evil*"))


def test_a_plan_is_not_trusted_where_its_digests_are_sound(packed, tmp_path):
    with zipfile.ZipFile(packed) as archive:
        told, plan = json.loads(archive.read("pack.json")), json.loads(archive.read("plan.json"))

    def forged(text: str) -> str:
        members = {**told["members"], "plan.json": hashlib.sha256(text.encode()).hexdigest()}
        header = {**told, "members": members, "content_sha256": pack_module._digest(told["hu_step"], members)}
        changed = {"plan": text.encode(), "pack": json.dumps(header).encode()}
        return refused(rewritten(packed, tmp_path / "forged.ctpack", **changed), tmp_path / "run")

    first, *others = plan["scans"]
    assert "no whole numbers" in forged(json.dumps({**plan, "scans": [{**first, "slices": "9"}, *others]}))
    assert "no whole numbers" in forged(json.dumps({**plan, "image_size": 64.0}))
    assert "those of a pack" in forged(json.dumps({**plan, "scans": [{**first, "id": 7}, *others]}))
    many = {**plan, "image_size": 4096, "scans": [{**scan, "slices": 10**5} for scan in plan["scans"]]}
    assert "it has 5 members, its plan wants 300002" in forged(json.dumps(many))
    assert "cannot be read as a training plan" in forged("7")
    assert "cannot be read as a training plan" in forged("[" * 10**5)


def test_no_more_is_expanded_than_a_member_says_it_holds(tmp_path):
    bomb = tmp_path / "bomb.ctpack"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pack.json", bytes(2**26))
        archive.getinfo("pack.json").file_size = 1000
    tracemalloc.start()
    try:
        assert "pack.json is damaged" in refused(bomb, tmp_path / "run")
        assert tracemalloc.get_traced_memory()[1] < 2**23
    finally:
        tracemalloc.stop()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("pack.json", bytes(100))
    assert "compressed as no pack is" in refused(bomb, tmp_path / "run")


def test_an_image_of_another_size_takes_no_memory():
    data = bytearray(encode_slices(np.zeros((1, 8, 8), np.int16), hu_step=1))
    place = data.index(b"ihdr") + 4
    assert data[place : place + 8] == struct.pack(">II", 8, 8)
    data[place : place + 8] = struct.pack(">II", 2**15, 2**15)
    with pytest.raises(ValueError, match="decompression bomb"):
        decode_slices(bytes(data), (1, 8, 8), hu_step=1)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.ctpack"
    text.write_text("no pack")
    assert "is not a CTDiffusion pack: it is no zip file" in refused(text, tmp_path / "run")
    with zipfile.ZipFile(tmp_path / "zip.ctpack", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "is not a CTDiffusion pack: it is a zip file of something else" in refused(
        tmp_path / "zip.ctpack", tmp_path / "run"
    )
    assert "There is no pack" in refused(tmp_path / "none.ctpack", tmp_path / "run")
    (tmp_path / "folder.ctpack").mkdir()
    assert "is a folder" in refused(tmp_path / "folder.ctpack", tmp_path / "run")
    with pytest.raises(UsageError, match=r"does not end in \.ctpack"):
        read_pack(tmp_path / "a.zip")
    with pytest.raises(ValueError):
        decode_slices(b"no image", (1, 8, 8), hu_step=1)


def test_nothing_half_written_is_left(corpus, tmp_path):
    def stop(done: int, _of: int) -> None:
        if done == 2:
            raise Cancelled()

    with pytest.raises(Cancelled):
        write_pack(tmp_path / "a.ctpack", corpus, on_progress=stop)
    in_the_way = tmp_path / "folder.ctpack"
    in_the_way.mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        write_pack(in_the_way, corpus)
    with pytest.raises(UsageError, match=r"does not end in \.ctpack"):
        write_pack(tmp_path / "a.zip", corpus)
    with pytest.raises(UsageError, match="from 0 to 25, got 26"):
        write_pack(tmp_path / "a.ctpack", corpus, PackOptions(hu_step=26))
    assert list(tmp_path.iterdir()) == [in_the_way]


def test_a_cache_that_is_not_what_the_plan_says_is_noticed(corpus, tmp_path):
    lost = PreparedCorpus(corpus.plan, tmp_path, corpus.body_net)
    with pytest.raises(InputError, match=r"mueller_hans_1\.npy cannot be read"):
        write_pack(tmp_path / "a.ctpack", lost)
    np.save(tmp_path / "mueller_hans_1.npy", np.zeros((9, 8, 8), np.int16))
    with pytest.raises(InputError, match="its plan says int16"):
        write_pack(tmp_path / "a.ctpack", lost)
    assert not (tmp_path / "a.ctpack").exists()


def test_every_hu_there_is_survives():
    hu = np.arange(-1024, 3072, dtype=np.int16).reshape(1, 64, 64)
    assert np.array_equal(decode_slices(encode_slices(hu, hu_step=1), (1, 64, 64), hu_step=1), hu)

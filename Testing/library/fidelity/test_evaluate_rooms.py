"""The evaluation: which volumes are compared, each read once, any rooms, and what is said about what is left out.

Rooms stand in here that note what they are asked; the real ones have tests of their own.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import jsonschema
import numpy as np
import pytest

from CTDiffusionLogic.errors import Cancelled, InputError
from CTDiffusionLogic.fidelity import evaluate as module
from CTDiffusionLogic.fidelity.evaluate import EvaluateOptions, evaluate
from CTDiffusionLogic.fidelity.inputs import find_inputs
from CTDiffusionLogic.fidelity.report.json_report import SCHEMA_FILE, to_json
from CTDiffusionLogic.fidelity.results import Section
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.scan_search import ScanRef
from CTDiffusionLogic.volume_io import write_volume


def write(path, *, seed=0, **metadata):
    """A small phantom that says of itself what ``metadata`` says; nothing: it passes for a real scan."""
    volume = torso_phantom(slices=6, size=40, spacing_mm=(10.0, 10.0, 12.0), seed=seed)
    write_volume(replace(volume, metadata=metadata), path)
    return path


@pytest.fixture
def data(tmp_path):
    """Three scans of two patients and two synthetic volumes."""
    for n, patient in enumerate(("sub-a", "sub-a", "sub-b")):
        (tmp_path / "real" / patient).mkdir(parents=True, exist_ok=True)
        write(tmp_path / "real" / patient / f"scan{n}.nrrd", seed=n)
    for n in range(2):
        write(tmp_path / "made" / f"made{n}.nrrd", seed=10 + n, synthetic="yes", model="m", seed_of=str(n))
    return tmp_path


class NotingRoom:
    """Notes what it is asked."""

    def __init__(self, *groups, key="noting", fault=None):
        self.key, self.title, self.groups, self.fault = key, "Noting", groups or ("real", "synthetic"), fault
        self.measured, self.compared = [], {}

    def measure(self, volume):
        self.measured.append(volume.id)
        if self.fault and self.fault in volume.id:
            raise InputError(f"{volume.id} has no lungs.")
        return volume.id, volume.patient, float(volume.hu.mean())

    def compare(self, measures, *, seed):
        self.compared = {group: [m[0] for m in found] for group, found in measures.items()}
        if self.fault == "compare":
            raise InputError("Two patients are needed.", remedy="Give more.")
        return Section(key=self.key, title=self.title, verdict="Noted.", details={"seed": seed})


def run(data, *rooms, on_event=lambda *_: None, is_cancelled=lambda: False, **more):
    options = EvaluateOptions(
        **{"real": (data / "real",), "synthetic": (data / "made",), "device": "cpu", "seed": 7, **more}
    )
    return evaluate(
        options,
        rooms=lambda _options, _scans: (rooms, {"a": 1}),
        on_event=on_event,
        is_cancelled=is_cancelled,
    )


def stems(ids):
    return [name.rpartition("-")[0] for name in ids]


def test_each_volume_is_read_once_and_measured_in_the_rooms_that_want_its_group(data, monkeypatch):
    reads = Counter()
    read = ScanRef.read
    monkeypatch.setattr(ScanRef, "read", lambda self: reads.update([self.path.name]) or read(self))
    both, training = NotingRoom(), NotingRoom("training", "held-out", key="training")
    found = run(data, both, training, training=(data / "real" / "sub-a",))
    assert set(reads.values()) == {1}
    assert stems(both.measured) == ["scan0", "scan1", "scan2", "made0", "made1"]
    assert {group: stems(ids) for group, ids in both.compared.items()} == {
        "real": ["scan0", "scan1", "scan2"],
        "synthetic": ["made0", "made1"],
    }
    # Real scans of patients that are not in the training are held out, without being asked.
    assert {group: stems(ids) for group, ids in training.compared.items()} == {
        "training": ["scan0", "scan1"],
        "held-out": ["scan2"],
    }
    assert stems(found.pictures) == ["scan0", "scan1", "scan2", "made0", "made1"]
    assert any("2 of 3 real scans are training scans" in sentence for sentence in found.report.warnings)


def test_the_report_says_all_that_is_needed_to_do_it_again(data):
    report = run(data, NotingRoom()).report
    jsonschema.validate(json.loads(to_json(report)), json.loads(SCHEMA_FILE.read_text(encoding="utf-8")))
    assert report.seed == 7
    assert report.sections[0].details == {"seed": 7}
    assert report.protocol == {"a": 1}
    assert report.patients("real") == 2
    assert {volume.patient for volume in report.volumes("real")} == {"sub-a", "sub-b"}
    assert len({volume.sha256 for volume in report.inputs}) == 5
    made = report.volumes("synthetic")
    assert all(volume.synthetic and volume.origin == {"model": "m"} for volume in made)
    assert len({volume.patient for volume in made}) == 2  # each its own
    assert {"CTDiffusion", "Python", "numpy", "torch"} <= set(report.versions)
    assert {"reading", "pictures", "noting", "all"} == set(report.seconds)


def test_synthetic_volumes_and_phantoms_are_never_real_scans(data):
    write(data / "real" / "made.nrrd", seed=20, synthetic="yes")
    write(data / "real" / "made.nii.gz", seed=21, synthetic="yes")
    write(data / "real" / "drawn.nrrd", seed=22, synthetic="yes", phantom="yes")
    room, told = NotingRoom(), []
    report = run(data, room, on_event=lambda name, facts: told.append((name, facts))).report
    assert stems(room.compared["real"]) == ["scan0", "scan1", "scan2"]
    reasons = {item.path.rpartition("/")[2]: item.reason for item in report.left_out}
    assert reasons["made.nrrd"] == reasons["made.nii.gz"] == "is synthetic, not a real scan"
    assert "phantom" in reasons["drawn.nrrd"]
    assert [facts["reason"] for name, facts in told if name == "left out"] == [o.reason for o in report.left_out]
    report = run(data, room, allow_phantoms=True).report
    assert stems(room.compared["real"]) == ["drawn", "scan0", "scan1", "scan2"]
    assert any("1 of the real volumes are phantoms" in sentence for sentence in report.warnings)


def test_what_cannot_be_read_is_left_out_and_said(data):
    whole = (data / "real" / "sub-a" / "scan0.nrrd").read_bytes()
    (data / "real" / "broken.nrrd").write_bytes(whole[:-2000])
    (data / "real" / "text.nrrd").write_text("nothing")
    report = run(data, NotingRoom()).report
    assert len(report.volumes("real")) == 3
    reasons = {item.path.rpartition("/")[2]: item.reason for item in report.left_out}
    assert "truncated" in reasons["broken.nrrd"]
    assert reasons["text.nrrd"]


def test_nothing_to_compare_with_is_an_error(data):
    (data / "empty").mkdir()
    with pytest.raises(InputError, match="No CT scans found"):
        run(data, NotingRoom(), real=(data / "empty",))
    with pytest.raises(InputError, match=r"No real volumes are left.*is synthetic, not a real scan"):
        run(data, NotingRoom(), real=(data / "made",))
    with pytest.raises(InputError, match="does not exist"):
        run(data, NotingRoom(), synthetic=(data / "nowhere",))


def test_equal_voxels_are_noticed(data):
    copy = data / "made" / "copy.nrrd"
    copy.write_bytes((data / "real" / "sub-b" / "scan2.nrrd").read_bytes())
    write(data / "real" / "sub-c.nrrd", seed=0)  # scan0 again, under another name
    write(data / "made" / "made2.nrrd", seed=11, synthetic="yes")  # made1 again
    room = NotingRoom()
    warnings = run(data, room).report.warnings
    assert len(room.compared["real"]) == 3  # a scan counts once
    assert len(room.compared["synthetic"]) == 4  # a model that repeats itself is judged with its repetitions
    text = " ".join(warnings)
    assert "counts once" in text
    assert "made2" in text
    assert "equal, voxel by voxel" in text
    assert "one of them is not what it was given as" in text
    assert "do not say so themselves" in text


def test_held_out_scans_share_no_patient_with_the_training(data):
    paths = {
        "real": [data / "real"],
        "synthetic": [data / "made"],
        "training": [data / "real" / "sub-a" / "scan0.nrrd"],
        "held-out": [data / "real"],
    }
    found = find_inputs(paths)
    assert [s.ref.path.name for s in found.scans if "held-out" in s.groups] == ["scan2.nrrd"]
    assert [o.group for o in found.left_out] == ["held-out", "held-out"]


def test_a_fault_of_one_volume_or_room_is_no_fault_of_the_others(data):
    faulty, late, good = NotingRoom(fault="made1"), NotingRoom(fault="compare", key="late"), NotingRoom(key="good")
    report = run(data, faulty, late, good).report
    assert stems(faulty.compared["synthetic"]) == ["made0"]
    assert any("has no lungs" in sentence for sentence in report.warnings)
    sections = {section.key: section for section in report.sections}
    assert sections["late"].verdict == "Not told: Two patients are needed."
    assert sections["good"].verdict == "Noted."


def test_it_stops_between_volumes_and_tells_how_far_it_is(data):
    told = []

    def on_event(name, facts):
        if name == "progress":
            told.append(facts)

    room = NotingRoom()
    run(data, room, on_event=on_event)
    assert [facts["done"] for facts in told] == [0, 1, 2, 3, 4, 5, 6]
    assert {facts["of"] for facts in told} == {6}
    assert told[0]["eta_s"] is None
    assert told[-1]["eta_s"] == 0
    stopped = NotingRoom()
    with pytest.raises(Cancelled):
        run(data, stopped, is_cancelled=lambda: len(stopped.measured) == 2)
    assert len(stopped.measured) == 2


def test_few_patients_and_few_volumes_are_said(data):
    text = " ".join(run(data, NotingRoom(), real=(data / "real" / "sub-a",)).report.warnings)
    assert "All real scans are of one patient: there is no floor" in text
    assert "fewer than 8 synthetic volumes" in text


def test_headers_say_what_reading_finds(data):
    """Shapes and spacings decide the protocol before anything is read."""
    for scan in find_inputs({"real": [data / "real"], "synthetic": [data / "made"]}).scans:
        lab, said = scan.read()
        assert scan.shape == lab.hu.shape == said.shape
        assert np.allclose(scan.spacing_mm, lab.spacing_mm)
        assert np.allclose(scan.extent_mm, lab.extent_mm)


def test_options_and_groups_belong_together():
    options = EvaluateOptions(real=(), synthetic=())
    assert set(options.paths) == set(module.GROUPS)

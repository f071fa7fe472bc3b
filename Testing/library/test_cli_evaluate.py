"""``ctdiffusion evaluate``: options reach the library, what it tells becomes events, every ending its exit code."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from random_model import write_random_fine_model, write_random_model

from CTDiffusionLogic.bundle import describe, load_model, read_header, save_model
from CTDiffusionLogic.card_figures import weights_digest
from CTDiffusionLogic.cli import evaluate as command
from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Progress, Started, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.errors import Cancelled, InputError
from CTDiffusionLogic.fidelity import evaluate as library
from CTDiffusionLogic.fidelity.evaluate import EvaluateOptions, Evaluation
from CTDiffusionLogic.fidelity.extractors.base import DEFAULT_EXTRACTOR
from CTDiffusionLogic.fidelity.findings import GROUPS, InputVolume, LeftOut, Report
from CTDiffusionLogic.fidelity.inputs import find_inputs
from CTDiffusionLogic.fidelity.results import Figure, Interval, Section
from CTDiffusionLogic.phantom import torso_phantom
from CTDiffusionLogic.volume_io import write_volume

REAL_EVALUATE = library.evaluate
FIGURE = Figure(
    key="a.b", title="AB", synthetic=Interval(value=2.5), floor=Interval(value=1.0), better="lower", unit="HU"
)


def volume(name, group):
    return InputVolume(
        id=name, patient=name, groups=(group,), sha256="0" * 64, shape=(1, 1, 1), spacing_mm=(1.0, 1.0, 1.0)
    )


class FakeEvaluation:
    """Stands in for the library's evaluation."""

    def __init__(self, monkeypatch) -> None:
        self.told: list[tuple[str, dict]] = []
        self.options: EvaluateOptions | None = None
        self.command = ""
        self.error: Exception | None = None
        self.origin: dict[str, str] = {}
        self.made: tuple[InputVolume, ...] = ()
        monkeypatch.setattr(library, "evaluate", self.evaluate)

    def evaluate(self, options, *, command, on_event, is_cancelled):
        self.options, self.command = options, command
        for name, facts in self.told:
            on_event(name, facts)
        if self.error:
            raise self.error
        if is_cancelled():
            raise Cancelled
        report = Report(
            created="2024-05-06T07:08:09Z",
            command=command,
            seed=options.seed,
            versions={"CTDiffusion": "0"},
            machine="CPU",
            protocol={},
            inputs=(
                volume("r", "real"),
                *(self.made or (replace(volume("s", "synthetic"), origin=self.origin),)),
            ),
            left_out=(LeftOut(path="x", group="real", reason="is not a CT"),),
            sections=(Section(key="a", title="Room A", verdict="Two and a half.", figures=[FIGURE]),),
            warnings=("Few.",),
            seconds={},
        )
        return Evaluation(report, {})


@pytest.fixture
def evaluation(monkeypatch, tmp_path) -> FakeEvaluation:
    """The stand-in, in a folder with the data a and b."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    return FakeEvaluation(monkeypatch)


def run(capfd, *words):
    code = main(["evaluate", *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def test_every_option_reaches_the_library(evaluation, capfd):
    words = "--real a b --synthetic b --real a --out o --training a --held-out b --independent a --seed 5 --device cpu"
    words += " --extractor radiomics inception:w.pth --images-per-volume 3 --allow-phantoms"
    code, _ = run(capfd, *words.split())
    assert code == 0
    wanted = EvaluateOptions(
        real=(Path("a"), Path("b"), Path("a")),
        synthetic=(Path("b"),),
        training=(Path("a"),),
        held_out=(Path("b"),),
        independent=(Path("a"),),
        extractors=("radiomics", "inception:w.pth"),
        images_per_volume=3,
        device="cpu",
        seed=5,
        allow_phantoms=True,
    )
    assert evaluation.options == wanted
    defaults = EvaluateOptions(real=(), synthetic=())
    # An option added to the library must be added to the command.
    assert all(getattr(wanted, f.name) != getattr(defaults, f.name) for f in fields(EvaluateOptions))


def test_defaults_are_the_library_s(evaluation, capfd):
    assert run(capfd, "--real", "a", "--synthetic", "b", "--out", "o")[0] == 0
    assert evaluation.options == EvaluateOptions(real=(Path("a"),), synthetic=(Path("b"),))
    assert command.DEFAULT_EXTRACTOR == DEFAULT_EXTRACTOR
    assert tuple(name.replace("_", "-") for name in command.GROUPS) == GROUPS
    assert {"options", "command", "on_event", "is_cancelled"} <= set(
        inspect.signature(library.evaluate).parameters
    ) | {"options"}


def test_what_happens_becomes_events(evaluation, capfd, tmp_path):
    evaluation.told = [
        ("left out", {"path": "x", "group": "real", "reason": "is not a CT."}),
        ("device", {"device": "CPU"}),
        ("progress", {"done": 1, "of": 4, "eta_s": 3.0, "phase": "measuring r"}),
        ("warning", {"message": "Few."}),
    ]
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o")
    assert code == 0
    assert isinstance(events[0], Started)
    assert events[0].details["extractors"] == ["ctfeatures"]
    assert events[1:-1] == [
        Warned("Left out x (real): is not a CT."),
        Metric("device", {"device": "CPU"}),
        Progress(1, 4, 3.0, "measuring r"),
        Warned("Few."),  # once, though the report says it again
        Metric("a.b", {"synthetic": 2.5, "floor": 1.0, "unit": "HU", "standing": "off"}),
    ]
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.outputs == ("o/report.html", "o/report.json", "o/plots")
    assert finished.details["standings"] == {"a": "off"}
    assert (tmp_path / "o" / "report.html").is_file()


def test_people_read_a_verdict_for_each_room(evaluation, capfd):
    assert main(["evaluate", "--real", "a", "--synthetic", "b", "--out", "o"]) == 0
    assert capfd.readouterr().out.splitlines() == [
        "Room A: off. Two and a half.",
        "o/report.html",
        "o/report.json",
        "o/plots",
    ]


def test_what_cannot_be_is_noticed_before_anything_is_measured(evaluation, capfd, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for words, message in (
        ("--real nowhere --synthetic b --out o", "nowhere does not exist."),
        ("--real a --synthetic b --training nowhere --out o", "nowhere does not exist."),
        ("--real a --synthetic b --out full", "full exists already and is not an empty folder."),
        ("--real a --synthetic b --out full/file", "full/file exists already and is a file."),
    ):
        code, events = run(capfd, *words.split())
        assert code == 1
        assert [e.message for e in events] == [message]
    for words in ("--synthetic b --out o", "--real a --synthetic b", "--real a --synthetic b --out o --seed -1"):
        assert run(capfd, *words.split())[0] == 2
    assert evaluation.options is None


def test_packages_that_reports_need_are_asked_for_before_anything_is_measured(evaluation, capfd, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None if name == "jinja2" else name)
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o")
    assert code == 1
    assert events[-1].message == "The Python package jinja2 is not installed."
    assert evaluation.options is None


def test_failed_and_cancelled_evaluations_leave_nothing(evaluation, capfd, tmp_path):
    evaluation.error = InputError("No real volumes are left.", remedy="Give some.")
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o")
    assert code == 1
    assert events[-1] == Failed("bad-input", "No real volumes are left.", "Give some.", 1)
    evaluation.error = None
    (tmp_path / "stop").touch()
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o", "--cancel-file", "stop")
    assert code == 130
    assert events[-1].code == "cancelled"
    assert not (tmp_path / "o").exists()


def test_figures_go_into_the_card_of_the_model_that_made_the_volumes(evaluation, capfd, tmp_path):
    model = tmp_path / "m.safetensors"
    sha256 = save_model(model, {"anatomy.w": torch.ones(3)}, {"stages": {"anatomy": {}, "detail": {}}})
    evaluation.origin = {"model_sha256": sha256}
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o", "--into-card", model)
    assert code == 0
    assert str(model) in events[-1].outputs
    header = read_header(model)
    assert header.sha256 != sha256
    assert header.card["metrics"]["evaluation"]["figures"]["a.b"]["value"] == 2.5
    code, _ = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o2", "--into-card", model)
    assert code == 0, "volumes made before the card was written are still this model's"
    evaluation.origin = {"model_sha256": "0" * 64}
    content = model.read_bytes()
    code, events = run(capfd, "--real", "a", "--synthetic", "b", "--out", "o3", "--into-card", model)
    assert (code, model.read_bytes()) == (1, content)
    assert "was not made by this model" in events[-1].message
    assert (tmp_path / "o3" / "report.html").exists(), "the report is there all the same"
    assert run(capfd, "--real", "a", "--synthetic", "b", "--out", "o4", "--into-card", "nowhere")[0] == 1


def test_volumes_of_a_larger_matrix_are_the_fine_model_s_and_not_the_base_model_s(evaluation, capfd, tmp_path):
    base, fine = write_random_model(tmp_path / "base.safetensors"), write_random_fine_model(tmp_path / "f.safetensors")
    before = {path: path.read_bytes() for path in (base, fine)}
    words = ["generate", "--model", base, "--slices", 8, "--device", "cpu", "--threads", 1, "--out"]
    (tmp_path / "made").mkdir()
    for name, more in (("plain", []), ("large", ["--fine", fine])):
        assert main([str(word) for word in (*words, tmp_path / "made" / f"{name}.nrrd", *more)]) == 0
    capfd.readouterr()
    write_volume(torso_phantom(slices=8, size=32, spacing_mm=(6.0, 6.0, 3.0)), tmp_path / "phantom.nrrd")
    groups = {"real": [tmp_path / "phantom.nrrd"], "synthetic": [tmp_path / "made"]}
    read = [scan.read()[1] for scan in find_inputs(groups, allow_phantoms=True).scans]
    _, plain, large = sorted(read, key=lambda volume: volume.shape[1])
    assert (plain.shape[1], large.shape[1]) == (64, 128)
    sha256 = read_header(base).sha256
    assert large.origin["model_sha256"] == plain.origin["model_sha256"] == sha256

    def told(out: str, model: Path, *made: InputVolume) -> tuple[int, Failed | Finished]:
        evaluation.made = made
        code, events = run(capfd, "--real", "a", "--synthetic", "made", "--out", out, "--into-card", model)
        return code, events[-1]

    for out, model, made, message in (
        ("1", base, (plain, large), f"{large.id} was refined by the fine model finer: the figures are not this"),
        ("2", base, (large, replace(large, id="b")), f"{large.id}, b were refined by the fine model finer"),
        ("3", fine, (large, plain), f"{plain.id} was not made by this model: it names {sha256[:12]}"),
    ):  # fmt: skip
        code, failed = told(out, model, *made)
        assert code == 1 and isinstance(failed, Failed) and failed.message.startswith(message), failed
        assert model is fine or "without --matrix, or name the fine model after --into-card" in failed.remedy
    assert before == {path: path.read_bytes() for path in before}
    assert told("4", base, plain)[0] == told("5", fine, large)[0] == 0
    entry = read_header(fine).card["metrics"]["evaluation"]
    assert entry["model_sha256"] == large.origin["fine_model_sha256"]
    assert entry["base_model_sha256"] == [plain.origin["model_sha256"]]
    assert "base_model_sha256" not in read_header(base).card["metrics"]["evaluation"]
    text = " ".join(describe(read_header(fine)).split())
    assert f"It refined them; they were first made by the model {plain.origin['model_sha256'][:12]}." in text
    assert "base model" not in text and "base_model" not in text, "told once, in words"
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(before[fine])
    assert weights_digest(load_model(fine)) == weights_digest(load_model(copy))
    assert told("6", fine, large)[0] == 0, "volumes name the digest that the file had before"

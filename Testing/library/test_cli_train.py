"""``ctdiffusion train``: options reach the library, its reports become events, and every ending its exit code."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

import pytest

from CTDiffusionLogic.cli.events import Failed, Finished, Metric, Progress, Started, Warned, parse_line
from CTDiffusionLogic.cli.main import main
from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.training.options import TrainOptions


@dataclass
class FakeResult:
    model: Path = Path("my-run/model.safetensors")
    steps: int = 40
    epochs: float = 1.5
    reason: str = "time"


class FakeTraining:
    """Stands in for the library's training: notes what it was asked and reports what it is told to."""

    def __init__(self, monkeypatch) -> None:
        self.reports: list[tuple[str, dict]] = []
        self.result = FakeResult()
        self.options: TrainOptions | None = None
        module = ModuleType("CTDiffusionLogic.training.run")
        module.train = self.train
        monkeypatch.setitem(sys.modules, module.__name__, module)

    def train(self, options, *, on_event, is_cancelled, began):
        self.options = options
        for name, facts in self.reports:
            on_event(name, facts)
        if isinstance(self.result, Exception):
            raise self.result
        if is_cancelled():
            self.result.reason = "cancelled"
        return self.result


@pytest.fixture
def training(monkeypatch, tmp_path) -> FakeTraining:
    """The stand-in, in a folder with the data a and b."""
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / name).mkdir()
    return FakeTraining(monkeypatch)


def test_data_that_is_not_there_is_noticed_at_once(training, capfd):
    code, events = run(capfd, "a", "nowhere", "--run", "r")
    assert code == 1
    assert [e.event for e in events] == ["failed"]
    assert events[0].message == "nowhere does not exist."
    assert training.options is None


def run(capfd, *words):
    code = main(["train", *map(str, words), "--events", "json"])
    return code, [parse_line(line) for line in capfd.readouterr().out.splitlines()]


def test_every_option_reaches_the_library(training, tmp_path, capfd):
    model = tmp_path / "start.safetensors"
    model.touch()
    words = "a b --run r --image-size 128 --preset tiny --max-minutes 2.5 --epochs 9 --device cpu --index i.csv"
    words += " --fidelity-every 3 --fidelity-extractor inception:w.pth"
    words += " --hold-out p1 --hold-out p2 --use-labels --seed 5 --cooldown 0.3 --loader-threads 2"
    words += " --checkpoint-minutes 3 --only detail"
    code, _ = run(capfd, *words.split(), "--init", model, "--name", "n", "--note", "CC BY")
    assert code == 0
    wanted = TrainOptions(
        data=(Path("a"), Path("b")),
        run=Path("r"),
        image_size=128,
        preset="tiny",
        max_minutes=2.5,
        epochs=9,
        device="cpu",
        index=Path("i.csv"),
        hold_out=("p1", "p2"),
        use_labels=True,
        init=model,
        only="detail",
        seed=5,
        cooldown=0.3,
        checkpoint_minutes=3.0,
        loader_threads=2,
        fidelity_every=3,
        fidelity_extractor="inception:w.pth",
        name="n",
        note="CC BY",
    )
    assert training.options == wanted
    defaults = TrainOptions(data=(), run=Path())
    untouched = {f.name for f in fields(TrainOptions) if getattr(wanted, f.name) == getattr(defaults, f.name)}
    assert untouched == {"resume"}  # an option added to the library must be added to the command


def test_defaults_are_the_library_s(training, capfd):
    assert run(capfd, "a", "--run", "r")[0] == 0
    assert training.options == TrainOptions(data=(Path("a"),), run=Path("r"))
    assert run(capfd, "--run", "r", "--resume")[0] == 0
    assert training.options == TrainOptions(data=(), run=Path("r"), resume=True)


def test_reports_become_events(training, capfd):
    training.reports = [
        ("device", {"device": "cpu"}),
        ("progress", {"done": 1, "of": 4, "phase": "measuring x"}),
        ("skipped", {"path": "a/b.nrrd", "reason": "is broken"}),
        ("warning", {"message": "1 of 2 scans is synthetic."}),
        ("metric", {"step": 20, "anatomy": 0.5}),
        ("progress", {"done": 20, "of": None, "eta_s": float("inf"), "phase": "training"}),
        ("progress", {"done": 40, "of": 80, "eta_s": 12.5, "phase": "training"}),
    ]
    code, events = run(capfd, "a", "--run", "r")
    assert code == 0
    assert isinstance(events[0], Started)
    assert events[1:-1] == [
        Metric("device", {"device": "cpu"}),
        Progress(1, 4, None, "measuring x"),
        Warned("Left out a/b.nrrd: is broken"),
        Warned("1 of 2 scans is synthetic."),
        Metric("training", {"step": 20, "anatomy": 0.5}),
        Progress(20, None, None, "training"),
        Progress(40, 80, 12.5, "training"),
    ]
    last = events[-1]
    assert isinstance(last, Finished)
    assert last.outputs == ("my-run/model.safetensors",)
    assert last.details["reason"] == "time"
    assert last.details["skipped"] == [{"path": "a/b.nrrd", "reason": "is broken"}]


def test_what_was_left_out_stands_at_the_end(training, capfd):
    training.reports = [("skipped", {"path": "b.nrrd", "reason": "is broken"})]
    assert main(["train", "a", "--run", "r"]) == 0
    assert capfd.readouterr().out.splitlines() == ["Left out: b.nrrd: is broken", "my-run/model.safetensors"]


def test_cancelled_while_training(training, tmp_path, capfd):
    (tmp_path / "stop").touch()
    code, events = run(capfd, "a", "--run", "r", "--cancel-file", tmp_path / "stop")
    assert code == 130
    assert events[-1].code == "cancelled"


def test_cancelled_while_preparing_and_afterwards(training, tmp_path, capfd):
    stop = tmp_path / "stop"

    class Appears(dict):  # the file appears while the training reports
        def get(self, key, default=None):
            stop.touch()
            return super().get(key, default)

    training.reports = [("progress", Appears(done=1, of=2, phase="measuring x"))]
    code, events = run(capfd, "a", "--run", "r", "--cancel-file", stop)
    assert (code, events[-1].message) == (130, "Cancelled while the scans were being prepared.")
    stop.unlink()
    training.reports = [("progress", Appears(done=20, of=40, phase="training"))]
    code, events = run(capfd, "a", "--run", "r", "--cancel-file", stop)
    assert code == 130
    assert events[-1].message == "Stopped at step 40; checkpoint and model are saved in r."
    assert events[-1].remedy == "Add --resume to go on."


def test_failure(training, capfd):
    training.result = InputError("No scans.", remedy="Give some.")
    code, events = run(capfd, "a", "--run", "r")
    assert code == 1
    assert events[-1] == Failed("bad-input", "No scans.", "Give some.", 1)


def test_init_must_be_there(training, capfd):
    code, events = run(capfd, "a", "--run", "r", "--init", "nowhere")
    assert code == 1
    assert events[-1].code == "bad-model"
    code, events = run(capfd, "--run", "r", "--resume", "--init", __file__)
    assert code == 2

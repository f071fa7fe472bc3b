"""Files that are written while a training goes on, and how often it stands still for a sheet."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from CTDiffusionLogic.errors import OutputError
from CTDiffusionLogic.training.checkpoint import copied, load_newest, save_checkpoint
from CTDiffusionLogic.training.contact_sheet import SHARE, SheetSchedule
from CTDiffusionLogic.training.writer import Writer


def test_the_training_goes_on_while_something_is_written():
    gate, written = threading.Event(), []

    def write() -> Path:
        gate.wait(60)
        return Path("a")

    with Writer() as writer:
        writer.begin(write, written.append)
        writer.poll()
        assert not writer.is_idle and not written
        gate.set()
        writer.finish()
        assert writer.is_idle and written == [Path("a")]


def test_files_are_written_one_after_the_other_and_told_where_the_loop_asks():
    order: list[object] = []

    def writes(name: str):
        def write() -> Path:
            order.append(threading.current_thread() is threading.main_thread())
            return Path(name)

        return write

    with Writer() as writer:
        for name in ("a", "b"):
            writer.begin(writes(name), order.append)
        writer.finish()
    assert order == [False, Path("a"), False, Path("b")]


@pytest.mark.parametrize("ask", ["poll", "finish", "begin"])
def test_what_went_wrong_is_raised_in_the_loop(ask):
    failed = threading.Event()

    def write() -> Path:
        failed.set()
        raise OutputError("No space.", remedy="Free some.")

    with Writer() as writer:
        writer.begin(write, lambda _: pytest.fail("it was not written"))
        failed.wait(60)
        with pytest.raises(OutputError, match="No space"):
            if ask == "poll":
                while not writer.is_idle:
                    writer.poll()
            elif ask == "finish":
                writer.finish()
            else:
                writer.begin(lambda: Path("b"), lambda _: None)
        writer.begin(lambda: Path("c"), lambda _: None)  # and it can be tried again
        writer.finish()


def test_a_training_that_fails_leaves_what_it_was_writing_whole(tmp_path):
    gate = threading.Event()

    def write() -> Path:
        gate.wait(60)
        return save_checkpoint(tmp_path, copied({"x": torch.ones(3)}), step=7, facts={})

    with pytest.raises(RuntimeError, match="oh"), Writer() as writer:
        writer.begin(write, lambda _: None)
        threading.Timer(0.05, gate.set).start()
        raise RuntimeError("oh")
    assert load_newest(tmp_path).step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000007.safetensors"]


def test_copies_stay_as_they_were_and_can_be_written():
    weights = torch.arange(48.0).reshape(2, 3, 2, 4).to(memory_format=torch.channels_last)
    parameter, count = torch.nn.Parameter(weights), torch.tensor(5)
    copies = copied({"w": parameter, "n": count})
    with torch.no_grad():
        parameter.zero_()
        count += 1
    assert copies["w"].is_contiguous() and copies["w"].flatten().tolist() == list(range(48))
    assert int(copies["n"]) == 5 and not copies["w"].requires_grad


def test_sheets_keep_their_share_of_the_time():
    sheets, clock, spent, made = SheetSchedule(), 0.0, 0.0, []
    for _ in range(120):  # ten hours
        clock += 300.0
        if sheets.is_due(clock):
            sheets.note(5.0)
            made.append(clock)
            clock, spent = clock + 5.0, spent + 5.0
    assert made[0] == 300.0, "one early"
    assert 0.8 * SHARE * clock < spent <= SHARE * clock
    fast = SheetSchedule()
    fast.note(0.5)
    assert fast.is_due(300.0), "a GPU has one at each checkpoint"

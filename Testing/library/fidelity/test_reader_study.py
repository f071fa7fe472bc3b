"""The plan of a reader study and its files: balanced, blind, the same for a seed, and whole after a crash."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.fidelity import reader_files
from CTDiffusionLogic.fidelity.reader_files import COLUMNS, create_study, key_path, open_study
from CTDiffusionLogic.fidelity.reader_study import Source, StudyPlan, check_reader, plan_from_dict, plan_study

REPOSITORY = Path(__file__).resolve().parents[3]
REAL = [Source(f"Doe^Jane-{n}", False, "/data/Doe^Jane", f"Doe^Jane {n}") for n in range(4)]
SYNTHETIC = [Source(f"made-{n}", True, "/data/made", f"made {n}") for n in range(3)]


def plan(**options) -> StudyPlan:
    return plan_study(REAL, SYNTHETIC, **{"items": 12, "seed": 5, **options})


def answer(study, *, reader="R1", choice=None, confidence=3):
    item = study.left(reader)[0]
    chosen = choice or item.truth
    return study.append(
        reader=reader, item=item.code, choice=chosen, confidence=confidence, seconds=1.5, window="350/40"
    )


@pytest.mark.parametrize("mode", ["pairs", "one by one"])
@pytest.mark.parametrize("items", [2, 12, 13, 40])
def test_both_answers_are_right_equally_often_and_volumes_are_used_equally_often(mode, items):
    made = plan(mode=mode, items=items)
    truths = Counter(item.truth for item in made.items)
    assert set(truths) == set(made.choices)
    assert abs(truths[made.choices[0]] - truths[made.choices[1]]) <= items % 2
    for group in (range(4), range(4, 7)):
        uses = Counter(one.source for item in made.items for one in item.exhibits if one.source in group)
        counts = [uses[source] for source in group]
        assert max(counts) - min(counts) <= 1


def test_the_truth_is_where_the_real_image_is():
    for item in plan(items=30).items:
        kinds = [made_synthetic(one) for one in item.exhibits]
        assert sorted(kinds) == [False, True]
        assert item.truth == ("left" if not kinds[0] else "right")
    for item in plan(items=30, mode="one by one").items:
        assert item.truth == ("synthetic" if made_synthetic(item.exhibits[0]) else "real")


def made_synthetic(exhibit) -> bool:
    return (REAL + SYNTHETIC)[exhibit.source].synthetic


def test_slices_of_a_volume_are_spread_over_its_height_and_none_comes_twice():
    made = plan(items=60)
    for source in range(7):
        heights = sorted(one.height for item in made.items for one in item.exhibits if one.source == source)
        assert heights[0] < 0.25
        assert heights[-1] > 0.75
        assert 0.1 <= heights[0] <= heights[-1] <= 0.9
        assert min(np.diff(heights)) > 0.5 * 0.8 / len(heights) - 1e-3


def test_the_same_seed_gives_the_same_study_and_another_seed_another():
    assert plan() == plan()
    assert plan().study_id == plan().study_id
    assert plan().study_id != plan(seed=6).study_id
    assert plan().study_id != plan().with_grid(1.0, 300.0).study_id
    # Pinned: a study that began with an older version goes on in the same order.
    assert [item.code for item in plan().items[:3]] == ["83JX", "SFAD", "GN9Q"]
    assert [item.code for item in plan().order_for("R1")[:3]] == ["RPFQ", "83JX", "9V9M"]


def test_readers_see_the_same_items_in_orders_of_their_own():
    made = plan(items=40)
    first, second = made.order_for("R1"), made.order_for("R2")
    assert sorted(item.code for item in first) == sorted(item.code for item in second)
    assert first != second
    assert first == made.order_for("R1")
    assert len({item.code for item in made.items}) == 40


def test_codes_and_order_do_not_tell_the_truth():
    """The truth of an item must not follow from its place: over many seeds every place is half and half."""
    places = np.array(
        [[i.truth == "real" for i in plan(seed=s, mode="one by one").order_for("R")] for s in range(300)]
    )
    assert np.all(np.abs(places.mean(axis=0) - 0.5) < 0.12)  # 4 standard deviations


def test_volumes_are_shown_once():
    made = plan(shown="volumes", items=3)
    assert all(one.height is None for item in made.items for one in item.exhibits)
    uses = Counter(one.source for item in made.items for one in item.exhibits)
    assert set(uses.values()) == {1}
    with pytest.raises(UsageError, match="4 items need 4 synthetic volumes, and there are 3"):
        plan(shown="volumes", items=4)


@pytest.mark.parametrize(
    ("groups", "options", "words"),
    [
        ((REAL, []), {}, "4 real and 0 synthetic volumes"),
        (([], SYNTHETIC), {}, "0 real and 3 synthetic"),
        ((REAL, SYNTHETIC), {"items": 1}, "1 items"),
        ((SYNTHETIC, REAL), {}, "wrong group"),
        ((REAL, SYNTHETIC), {"mode": "triples"}, "triples"),
    ],
)
def test_impossible_studies_are_refused(groups, options, words):
    with pytest.raises(UsageError, match=words):
        plan_study(*groups, **{"items": 10, **options})


def test_a_plan_survives_json():
    made = plan(mode="one by one").with_grid(1.25, 320.0)
    assert plan_from_dict(json.loads(json.dumps(made.to_dict()))) == made


@pytest.mark.parametrize("code", ["", "Jane Doe", "Jane^Doe", "a" * 17, "R/1", "R,1"])
def test_a_reader_is_a_code_not_a_name(code):
    with pytest.raises(UsageError, match="not a code"):
        check_reader(code)


def test_results_tell_nothing_about_patients_paths_or_the_truth(tmp_path):
    study = create_study(tmp_path / "study.csv", plan())
    for _ in range(12):
        answer(study, choice="left")
    text = (tmp_path / "study.csv").read_text()
    for word in ("Doe", "made", "data", "synthetic", "real"):
        assert word not in text
    assert "Doe^Jane" in key_path(tmp_path / "study.csv").read_text()
    lines = text.splitlines()
    assert lines[0] == ",".join(COLUMNS)
    assert len(lines) == 13


def test_a_study_goes_on_at_the_first_item_without_an_answer(tmp_path):
    path = tmp_path / "study.csv"
    study = create_study(path, plan())
    order = [item.code for item in study.left("R1")]
    given = [answer(study) for _ in range(5)]
    again = open_study(path, plan=plan())
    assert again.answers == given
    assert [item.code for item in again.left("R1")] == order[5:]
    assert len(again.left("R2")) == 12  # another reader has not begun
    answer(again, reader="R2")
    assert open_study(path).readers() == ["R1", "R2"]
    while again.left("R1"):
        answer(again)
    assert open_study(path).left("R1") == []


def test_an_answer_is_given_once_and_fits_the_question(tmp_path):
    study = create_study(tmp_path / "study.csv", plan())
    given = answer(study)
    for change in ({"item": given.item}, {"item": "none"}, {"choice": "real"}, {"confidence": 6}, {"reader": "J D"}):
        words = {"reader": "R1", "item": study.left("R1")[0].code, "choice": "left", "confidence": 1, **change}
        with pytest.raises(UsageError):
            study.append(seconds=1, window="", **words)
    assert len((tmp_path / "study.csv").read_text().splitlines()) == 2


CHILD = """
import os, sys, time
from pathlib import Path
from CTDiffusionLogic.fidelity import reader_files
study = reader_files.open_study(Path(sys.argv[1]))
half = int(sys.argv[2])
write = os.write
def slow_write(descriptor, data):
    if half and len(study.answers) == half:
        write(descriptor, data[: len(data) // 2])
        print("half", flush=True)
        time.sleep(60)
    return write(descriptor, data)
reader_files.os.write = slow_write
while study.left("R1"):
    item = study.left("R1")[0]
    study.append(reader="R1", item=item.code, choice="left", confidence=2, seconds=1, window="350/40")
    print("answered", flush=True)
    time.sleep(0.01)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
@pytest.mark.parametrize("half", [0, 3])
def test_a_killed_process_loses_at_most_the_answer_it_was_writing(tmp_path, half):
    path = tmp_path / "study.csv"
    order = [item.code for item in create_study(path, plan(items=200)).left("R1")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(half)], stdout=subprocess.PIPE, text=True, env=environment
    )
    said = []
    for line in child.stdout:
        said.append(line.strip())
        if line.startswith("half") or said.count("answered") == 7:
            break
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=30)
    assert child.returncode == -signal.SIGKILL
    told = said.count("answered")
    before = path.read_bytes()
    study = open_study(path)
    if half:
        assert not before.endswith(b"\n")  # the kill came in the middle of a line
        assert len(study.answers) == told == half
    else:
        assert told <= len(study.answers) <= told + 2
    assert path.read_bytes().endswith(b"\n")
    assert [one.item for one in study.answers] == order[: len(study.answers)]
    answer(study)
    assert [item.code for item in open_study(path).left("R1")] == order[len(study.answers) :]


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "study.csv"
    study = create_study(path, plan())
    answer(study)
    before, write, calls = path.read_bytes(), os.write, []

    def full(descriptor, data):
        calls.append(data)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return write(descriptor, data[:10])

    monkeypatch.setattr(reader_files.os, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        answer(study)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert len(study.answers) == 1
    answer(study)
    assert len(open_study(path).answers) == 2


def test_results_that_have_gone_do_not_come_back_without_their_header(tmp_path):
    study = create_study(tmp_path / "study.csv", plan())
    (tmp_path / "study.csv").unlink()
    with pytest.raises(OutputError):
        answer(study)
    assert not (tmp_path / "study.csv").exists()
    assert open_study(tmp_path / "study.csv").answers == []  # the key is there: the study can begin again


def test_the_csv_of_another_study_is_refused_and_not_touched(tmp_path):
    path, other = tmp_path / "study.csv", tmp_path / "other.csv"
    create_study(path, plan())
    answer(create_study(other, plan(seed=9)))
    with pytest.raises(InputError, match="belongs to another study"):
        open_study(path, plan=plan(seed=9))
    path.write_bytes(other.read_bytes() + b"torn")
    content = path.read_bytes()
    with pytest.raises(InputError, match=r"Line 2 of .* belongs to another study"):
        open_study(path)
    assert path.read_bytes() == content
    with pytest.raises(OutputError, match="exists"):
        create_study(path, plan())


def test_foreign_and_damaged_files_are_refused_in_plain_words(tmp_path):
    path = tmp_path / "study.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"key study\.key\.json is not beside"):
        open_study(path)
    path.unlink()
    study = create_study(path, plan())
    good = path.read_text()
    for tail, words in (
        ("a,b,c\n", "Line 2 .* is not an answer"),
        (f"{study.plan.study_id},R1,ZZZZZ,left,3,1.0,350/40\n", "does not fit the study"),
        (f"{study.plan.study_id},R1,{study.plan.items[0].code},left,9,1.0,350/40\n", "does not fit the study"),
        (f"{study.plan.study_id},R1,{study.plan.items[0].code},left,3,1.0,350/40\n" * 2, "a second time"),
    ):
        path.write_text(good + tail)
        with pytest.raises(InputError, match=words):
            open_study(path)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="not a file of reader study results"):
        open_study(path)
    path.write_text(good)
    key = json.loads(key_path(path).read_text())
    key["plan"]["items"][0]["truth"] = {"left": "right", "right": "left"}[key["plan"]["items"][0]["truth"]]
    key_path(path).write_text(json.dumps(key))
    with pytest.raises(InputError, match="was changed"):
        open_study(path)
    key_path(path).write_text("{}")
    with pytest.raises(InputError, match="not the key"):
        open_study(path)
    with pytest.raises(UsageError, match=r"\.csv"):
        create_study(tmp_path / "study.txt", plan())


def test_the_library_of_a_study_is_light():
    """Slicer's process imports it: no torch, and no scipy before figures are asked for."""
    code = (
        "import sys; from CTDiffusionLogic.fidelity import reader_files, reader_statistics, reader_images;"
        "print(sorted({'torch', 'scipy', 'monai', 'SimpleITK', 'matplotlib'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert said.stdout.strip() == "[]"

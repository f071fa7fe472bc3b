"""The files of a reader study: a CSV of answers that readers may see, and the key that unblinds it.

``study.csv`` has one line per answer, with item codes and no word of what the truth is, where an image came from, or
who the reader is beyond a code. ``study.key.json`` beside it holds the plan: keep it from the readers. An answer is
on the disk before the next item is shown; what a crash or a full disk leaves of a half-written line is cut off, and
the study goes on at the first item without an answer.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from CTDiffusionLogic.atomic import atomic_file, failures_named
from CTDiffusionLogic.errors import InputError, OutputError, UsageError
from CTDiffusionLogic.fidelity.reader_study import CONFIDENCES, Item, StudyPlan, check_reader, plan_from_dict

FORMAT, FORMAT_VERSION = "ctdiffusion-reader-study", 1


@dataclass(frozen=True)
class Answer:
    """One line of the results.

    Args:
        study: StudyPlan.study_id.
        reader: The reader's code.
        item: The item's code.
        choice: One of the plan's choices.
        confidence: 1 (a guess) to 5 (certain).
        seconds: From the moment when the item was shown until the choice was made.
        window: Grey levels at that moment: "width/level" in HU.
    """

    study: str
    reader: str
    item: str
    choice: str
    confidence: int
    seconds: float
    window: str


COLUMNS = tuple(field.name for field in fields(Answer))


class StudyFile:
    """A study on the disk; from ``create_study`` or ``open_study``.

    Attributes:
        path: The CSV file.
        plan: What is asked.
        answers: All answers so far, of all readers.
    """

    def __init__(self, path: Path, plan: StudyPlan, answers: Sequence[Answer]) -> None:
        self.path, self.plan, self.answers = path, plan, list(answers)

    def left(self, reader: str) -> list[Item]:
        """The items that a reader has not answered yet, in the reader's order."""
        done = {answer.item for answer in self.answers if answer.reader == reader}
        return [item for item in self.plan.order_for(reader) if item.code not in done]

    def readers(self) -> list[str]:
        """Codes of all readers with answers, in the order of their first one."""
        return list(dict.fromkeys(answer.reader for answer in self.answers))

    def append(self, *, reader: str, item: str, choice: str, confidence: int, seconds: float, window: str) -> Answer:
        """Write an answer; it is on the disk when this returns.

        Raises:
            UsageError: If it is no answer to an open item of this reader.
            OutputError: If it cannot be written; the file is as it was before, then.
        """
        check_reader(reader)
        if item not in {open_item.code for open_item in self.left(reader)}:
            raise UsageError(f"{item} is not an open item of the reader {reader}.")
        if choice not in self.plan.choices or confidence not in CONFIDENCES:
            raise UsageError(
                f"{choice!r} with confidence {confidence!r} is not an answer.",
                remedy=f"Choose of {self.plan.choices} and {CONFIDENCES}.",
            )
        answer = Answer(self.plan.study_id, reader, item, choice, confidence, round(float(seconds), 2), window)
        _append_line(self.path, _line(astuple(answer)))
        self.answers.append(answer)
        return answer


def key_path(path: Path) -> Path:
    """Where the key of a CSV file lies: ``study.key.json`` beside ``study.csv``."""
    return path.with_name(f"{path.stem}.key.json")


def create_study(path: Path, plan: StudyPlan) -> StudyFile:
    """Write the key and a CSV without answers.

    Raises:
        OutputError: If one of the files exists, or cannot be written.
    """
    path = _checked(path)
    for existing in (path, key_path(path)):
        if existing.exists():
            raise OutputError(f"{existing} exists.", remedy="Choose another file for a new study.")
    key = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "note": "This file unblinds the study and may name patients: keep it from the readers.",
        "study": plan.study_id,
        "plan": plan.to_dict(),
    }
    with atomic_file(key_path(path)) as temporary:
        temporary.write_text(json.dumps(key, indent=1), encoding="utf-8")
    with atomic_file(path) as temporary:
        temporary.write_bytes(_line(COLUMNS))
    return StudyFile(path, plan, [])


def open_study(path: Path, *, plan: StudyPlan | None = None, repair: bool = True) -> StudyFile:
    """Read a study and its answers so far. A half-written last line does not count.

    Args:
        path: The CSV file; its key lies beside it.
        plan: What the study must be; any if None.
        repair: Bring the file into order, so that answers can be appended: a half-written last line is cut off, and
            a CSV that is missing beside its key (a crash came between them) is made. Else nothing is written.

    Raises:
        InputError: If the file is not the results of this study, or the key is missing or damaged.
        OutputError: If a half-written line cannot be cut off.
    """
    path = _checked(path)
    stored = _read_key(key_path(path))
    if plan is not None and plan.study_id != stored.study_id:
        raise InputError(
            f"{path} belongs to another study ({stored.study_id}, not {plan.study_id}).",
            remedy="Choose another file, or choose the volumes, number of items and seed of that study.",
        )
    if not path.exists():
        if repair:
            with atomic_file(path) as temporary:
                temporary.write_bytes(_line(COLUMNS))
        return StudyFile(path, stored, [])
    return StudyFile(path, stored, _read_answers(path, stored, repair=repair))


def _checked(path: Path) -> Path:
    path = Path(path)
    if path.suffix.lower() != ".csv":
        raise UsageError(f"{path} does not end with .csv.", remedy="Name a CSV file.")
    return path


def _read_key(path: Path) -> StudyPlan:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"The key {path.name} is not beside the results.",
            remedy="Put it back, or choose another file for a new study.",
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}.", remedy="Restore it from a copy.") from None
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f"{path} is not the key of a reader study.", remedy="Choose another file.")
    if data.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path} is of version {data.get('format_version')}; this program reads version {FORMAT_VERSION}.",
            remedy="Use the version of CTDiffusion that made it.",
        )
    plan = plan_from_dict(data.get("plan") or {})
    if plan.study_id != data.get("study"):
        raise InputError(f"{path} was changed after the study began.", remedy="Restore it from a copy.")
    return plan


def _read_answers(path: Path, plan: StudyPlan, *, repair: bool) -> list[Answer]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}.", remedy="Choose another file.") from None
    whole = content[: content.rfind(b"\n") + 1]
    rows = list(csv.reader(io.StringIO(whole.decode("utf-8-sig", errors="replace"), newline="")))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise InputError(f"{path} is not a file of reader study results.", remedy="Choose another file.")
    answers: list[Answer] = []
    known = {item.code for item in plan.items}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        answer = _answer_of(row)
        if answer is None:
            raise InputError(f"Line {number} of {path} is not an answer: {row}.", remedy="Restore the file.")
        if answer.study != plan.study_id:
            raise InputError(
                f"Line {number} of {path} belongs to another study ({answer.study}, not {plan.study_id}).",
                remedy="Choose another file.",
            )
        if answer.item not in known or answer.choice not in plan.choices or answer.confidence not in CONFIDENCES:
            raise InputError(f"Line {number} of {path} does not fit the study: {row}.", remedy="Restore the file.")
        if any((answer.reader, answer.item) == (other.reader, other.item) for other in answers):
            raise InputError(
                f"Line {number} of {path} answers {answer.item} a second time for {answer.reader}.",
                remedy="Restore the file.",
            )
        answers.append(answer)
    if repair and len(whole) < len(content):  # only now: a file that is not ours is never touched
        with failures_named(path):
            os.truncate(path, len(whole))
    return answers


def _answer_of(row: Sequence[str]) -> Answer | None:
    try:
        study, reader, item, choice, confidence, seconds, window = row
        return Answer(study, reader, item, choice, int(confidence), float(seconds), window)
    except ValueError:
        return None


def _line(values: Sequence[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()


def _append_line(path: Path, line: bytes) -> None:
    """Append ``line`` and flush it to the disk; on any failure the file is as long as it was."""
    with failures_named(path):
        size = path.stat().st_size  # a file that has gone must not come back as one without a header
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
        try:
            written = os.write(descriptor, line)
            if written < len(line):  # a disk that is full takes a part
                os.write(descriptor, line[written:])
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
        finally:
            os.close(descriptor)

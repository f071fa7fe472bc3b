"""CT series of Slicer's DICOM database (slicer.dicomDatabase, a ctkDICOMDatabase) as scans for a training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from .TrainData import SERIES_STEM

#: Our own exports have it in their descriptions.
_SYNTHETIC = "SYNTHETIC"


@dataclass(frozen=True)
class SeriesChoice:
    """A CT series of the database.

    :param uid: SeriesInstanceUID.
    :param label: patient, date and description, for people.
    """

    uid: str
    label: str


@dataclass(frozen=True)
class SeriesExport:
    """A series and its files.

    :param label: for messages.
    :param files: all of them.
    """

    label: str
    files: tuple[Path, ...]


def database() -> Any:
    """Return Slicer's DICOM database if there is one and it is open, else None."""
    found = getattr(slicer, "dicomDatabase", None)
    return found if found is not None and found.isOpen else None


def ctSeries(source: Any, *, withSynthetic: bool = False) -> Iterator[SeriesChoice | None]:
    """Yield the CT series of a database, and None for each other one: a large database takes its time.

    :param source: see database.
    :param withSynthetic: whether series that call themselves synthetic are wanted, too.
    """
    for patient in source.patients():
        for study in source.studiesForPatient(patient):
            for uid in source.seriesForStudy(study):
                isCT = source.fieldForSeries("Modality", uid) == "CT"
                isWanted = isCT and (withSynthetic or _SYNTHETIC not in source.descriptionForSeries(uid))
                yield SeriesChoice(uid, _label(source, patient, study, uid)) if isWanted else None


def seriesLabel(source: Any, uid: str) -> str:
    """Return what people know a series by; where the database lacks it, that is said."""
    study = source.studyForSeries(uid) if source is not None else ""
    if not study:
        return _("{uid}: not in the DICOM database").format(uid=uid)
    return _label(source, source.patientForStudy(study), study, uid)


def exportOf(source: Any, uid: str) -> SeriesExport:
    """Take down the files of a series for linkSeries.

    :raises CTDiffusionLogic.errors.InputError: if the database has none.
    """
    from CTDiffusionLogic.errors import InputError

    files = tuple(Path(path) for path in source.filesForSeries(uid) if path) if source is not None else ()
    if not files:
        raise InputError(
            _("The DICOM database has no files of the series {label}.").format(label=seriesLabel(source, uid)),
            remedy=_("Import or retrieve it with the DICOM module, or remove it from the list."),
        )
    return SeriesExport(seriesLabel(source, uid), files)


def linkSeries(exports: Sequence[SeriesExport], folder: Path) -> None:
    """Make a folder of links for each series: its own may hold other series as well. From any thread.

    Where the system allows no links the files are copied.

    :param folder: is made.
    :raises CTDiffusionLogic.errors.InputError: if a file is missing.
    :raises CTDiffusionLogic.errors.OutputError: if the disk is full, for example.
    """
    from CTDiffusionLogic.atomic import failures_named
    from CTDiffusionLogic.errors import InputError

    for number, export in enumerate(exports, start=1):
        target = seriesFolder(folder, number)
        missing = next((path for path in export.files if not path.is_file()), None)
        if missing is not None:
            raise InputError(
                _("The file {path} of the series {label} is missing.").format(path=missing, label=export.label),
                remedy=_("Import the series again with the DICOM module, or remove it from the list."),
            )
        with failures_named(target):
            target.mkdir(parents=True, exist_ok=True)
            for index, path in enumerate(export.files):
                _link(path.absolute(), target / f"{index:05d}")


def seriesFolder(folder: Path, number: int) -> Path:
    """Where the series of that number, from 1, is."""
    return folder / f"{SERIES_STEM}-{number:03d}"


def _link(path: Path, target: Path) -> None:
    for link in (os.symlink, os.link):
        with suppress(OSError):
            link(path, target)
            return
    shutil.copyfile(path, target)


def _label(source: Any, patient: str, study: str, uid: str) -> str:
    date = source.fieldForStudy("StudyDate", study)
    parts = (source.nameForPatient(patient), date, source.descriptionForSeries(uid) or uid)
    return ", ".join(part.strip() for part in parts if part and part.strip())

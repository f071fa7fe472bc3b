"""Files and folders that appear whole or not at all; what killed processes leave is removed by those after them."""

from __future__ import annotations

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from CTDiffusionLogic.device import format_bytes
from CTDiffusionLogic.errors import CTDiffusionError, OutputError

#: Of the file whose lock says that a folder is in use.
_LOCK = ".lock"
#: Names of what is not whole yet.
_TEMPORARY = re.compile(r"\.[0-9a-f]{8}-.+", re.DOTALL)


@contextmanager
def atomic_file(path: Path, *, within: Path | None = None) -> Iterator[Path]:
    """Yield a temporary sibling to write; it takes the name ``path`` only when the block ends well.

    The sibling keeps the suffix of ``path`` (writers choose the format by it) and is hidden. On any
    failure it is removed, and a file that was at ``path`` before stays as it was.

    Args:
        path: Where it will be.
        within: A folder on the same disk for the temporary file instead, which whoever made it removes even where
            this process is killed.

    Raises:
        OutputError: If the folder cannot be made or the file cannot be written (disk full, no
            permission, a folder in the way).
    """
    with failures_named(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder of that name exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = (within or path.parent) / f".{uuid.uuid4().hex[:8]}-{path.name}"
        try:
            yield temporary
            _flush_to_disk(temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling folder to fill; it becomes ``path`` only when the block ends well.

    Raises:
        OutputError: If ``path`` is a file or a folder that is not empty, or something cannot be written.
    """
    with failures_named(path):
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            kind = "folder is not empty" if path.is_dir() else "file is in the way"
            raise OutputError(
                f"{path} cannot be written: that {kind}.", remedy="Choose a new folder, or empty this one first."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
        try:
            temporary.mkdir()
            yield temporary
            if path.exists():
                path.rmdir()  # empty, as checked; os.replace on Windows needs it gone
            temporary.replace(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def working_folder(place: Path, *, prefix: str) -> Iterator[Path]:
    """Yield a new folder in ``place``, this user's only, that is removed however the block ends.

    A process that is killed at once (kill -9, a power cut) removes nothing. So what earlier ones left in ``place`` is
    removed first: folders of this prefix that no living process holds, by a lock on a file beside each, which the
    system lets go of with its process.

    Args:
        place: Made if it is not there.
        prefix: Of the folder's name; eight characters follow.

    Raises:
        OutputError: If the folder cannot be made.
    """
    with failures_named(place):
        place.mkdir(parents=True, exist_ok=True)
        abandoned = re.compile(re.escape(prefix) + r"\w{8}")
        for name in {path.name.removesuffix(_LOCK) for path in place.iterdir()}:
            if abandoned.fullmatch(name) and (lock := _hold(place / name, seconds=0)):
                _remove(place / name, lock)
    folder = place / f"{prefix}{uuid.uuid4().hex[:8]}"
    lock = _hold(folder, seconds=5)  # before the folder is there: one that nobody holds is removed by others
    try:
        with failures_named(folder):
            folder.mkdir(mode=0o700)
        yield folder
    finally:
        _remove(folder, lock)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that processes that were killed left in a folder; nobody else may be writing there."""
    for path in folder.glob(".*"):
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def check_space(folder: Path, size: int) -> None:
    """Raise OutputError unless ``size`` bytes are free where ``folder`` is, or will be."""
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    with failures_named(folder):
        free = shutil.disk_usage(place).free
    if free < size:
        raise OutputError(
            f"Not enough space in {folder}: about {format_bytes(size)} are needed, {format_bytes(free)} are free.",
            remedy="Free some space on that disk, or write to another one.",
        )


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turn failures to write into an OutputError that names ``path`` and says what to do."""
    try:
        yield
    except CTDiffusionError:
        raise
    except OSError as error:
        number = _errno(error)
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "Free some space on that disk, or write to another one."
        elif number in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "Choose a folder you may write to."
        else:
            remedy = "Choose another path."
        raise OutputError(
            f"{path} cannot be written: {os.strerror(number) if number else error}.", remedy=remedy
        ) from error
    except RuntimeError as error:  # ITK's kind; it does not say why, so the disk is asked
        free = _free_bytes(path)
        full = "No space left on device" in str(error) or (free is not None and free < 1 << 20)
        reason = "no space left on the disk" if full else str(error).strip().splitlines()[-1].strip().rstrip(".")
        raise OutputError(
            f"{path} cannot be written: {reason}.", remedy="Free some space on that disk, or write to another one."
        ) from error


def _hold(folder: Path, *, seconds: float) -> Any:
    """Lock the file beside a folder; None if another process has it, or the disk knows no locks."""
    from filelock import FileLock  # there with torch, which requires it

    lock = FileLock(f"{folder}{_LOCK}", timeout=seconds)
    try:
        lock.acquire()
    except (OSError, NotImplementedError):  # a lock that is taken is a TimeoutError
        return None
    return lock


def _remove(folder: Path, lock: Any) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if lock is not None:
        lock.release()
        with suppress(OSError):  # another process that looks for abandoned folders may have it
            Path(lock.lock_file).unlink()


def _errno(error: BaseException) -> int | None:
    """The number of the error, or of the one it was made from (pydicom words its own)."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno:
            return cause.errno
        cause = cause.__cause__ or cause.__context__
    return None


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path.parent).free
    except OSError:
        return None


def _flush_to_disk(path: Path) -> None:
    """Make the kernel write ``path`` out, so that a full disk is noticed here and not later."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())

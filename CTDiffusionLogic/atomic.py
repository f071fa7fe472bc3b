"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from CTDiffusionLogic.errors import CTDiffusionError, OutputError


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary sibling to write; it takes the name ``path`` only when the block ends well.

    The sibling keeps the suffix of ``path`` (writers choose the format by it) and is hidden. On any
    failure it is removed, and a file that was at ``path`` before stays as it was.

    Raises:
        OutputError: If the folder cannot be made or the file cannot be written (disk full, no
            permission, a folder in the way).
    """
    with failures_named(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "a folder of that name exists")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{uuid.uuid4().hex[:8]}-{path.name}")
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

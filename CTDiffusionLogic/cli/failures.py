"""Every exception as one line for the user and an exit code."""

from __future__ import annotations

import errno
import traceback

from CTDiffusionLogic.cli.console import DEBUG_VARIABLE, debugging
from CTDiffusionLogic.cli.events import Failed
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, OutputError, ResourceError


def failure_of(error: BaseException) -> Failed:
    """Describe ``error``; prints its traceback to stderr when CTDIFFUSION_DEBUG is set."""
    if debugging():
        traceback.print_exception(error)
    known = _known(error)
    return Failed(known.code, _one_line(known.message), _one_line(known.remedy), known.exit_code)


def _known(error: BaseException) -> CTDiffusionError:
    """``error`` itself if it was raised on purpose, else what it means to the user."""
    match error:
        case CTDiffusionError():
            return error
        case KeyboardInterrupt():
            return Cancelled()
        case MemoryError():
            return ResourceError("Memory ran out.", remedy="Close other programs or ask for fewer slices.")
        case ModuleNotFoundError(name=str(name)):
            package = name.split(".")[0]
            return ResourceError(
                f"The Python package {package} is not installed.",
                remedy=f"Install it with: python -m pip install {package}, or see what `ctdiffusion doctor` says.",
            )
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG):
            return OutputError(f"The disk is full ({_text(error)}).", remedy="Free some space.")
        case RuntimeError() if "out of memory" in str(error) or "not enough memory" in str(error):
            return ResourceError(
                f"Memory ran out: {_first_line(error)}.", remedy="Close other programs, or use --device cpu."
            )
    return CTDiffusionError(
        f"unexpected: {type(error).__name__}: {_first_line(error)}.",
        remedy=f"This is a bug; run again with {DEBUG_VARIABLE}=1 for the details and report them.",
    )


def _text(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _first_line(error: BaseException) -> str:
    return _text(error).strip().splitlines()[0][:300].rstrip(".")


def _one_line(text: str) -> str:
    return " ".join(text.split())

"""The errors this library raises on purpose: each says what happened, to what, and what to do.

The command line turns them into one line and an exit code; the Slicer module shows the same
two sentences. Anything else that escapes is a bug.
"""

from __future__ import annotations


class CTDiffusionError(Exception):
    """A failure the user can act on.

    Args:
        message: One plain sentence that names the file or value at fault.
        remedy: One plain sentence that says what to do next; may be empty.

    Attributes:
        code: Short machine-readable name of the kind of failure, used in events.
        exit_code: What the ``ctdiffusion`` command returns for it.
    """

    code = "failed"
    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class InputError(CTDiffusionError):
    """A file or folder that was given cannot be used (unreadable, truncated, not a CT, NaNs...)."""

    code = "bad-input"


class ModelFileError(CTDiffusionError):
    """A model file is truncated, edited, of another kind, or made by a newer version."""

    code = "bad-model"


class OutputError(CTDiffusionError):
    """A result could not be written (no space, no permission); nothing half-written was left."""

    code = "cannot-write"


class ResourceError(CTDiffusionError):
    """The machine cannot do what was asked (no such device, out of memory, missing library)."""

    code = "no-resource"


class UsageError(CTDiffusionError):
    """The request itself makes no sense (a count of 0, contradictory options)."""

    code = "wrong-use"
    exit_code = 2


class Cancelled(CTDiffusionError):
    """The user asked to stop; what was final has been kept where the caller asked for it."""

    code = "cancelled"
    exit_code = 130

    def __init__(self, message: str = "Cancelled.", *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)

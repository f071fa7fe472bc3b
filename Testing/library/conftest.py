"""What tests of files share."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from CTDiffusionLogic.errors import InputError
from CTDiffusionLogic.volume_io import read_volume


@pytest.fixture
def refused(capfd) -> Callable[..., str]:
    """Reads a file or folder that must be refused with one clear line, and gives back that line."""

    def check(path: Path, *, about: Path | None = None) -> str:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        message = str(caught.value)
        assert str(about or path) in message
        assert caught.value.remedy
        assert "\n" not in message
        said = message.replace(str(path), "")
        assert not re.search(r"itk|0x[0-9a-f]{6}|Traceback", said, re.IGNORECASE), message
        assert capfd.readouterr().err == ""  # nothing spills past the one message
        return message

    return check

"""What tests of the library share."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
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


@pytest.fixture(scope="module")
def rough_body_positions() -> Iterator[None]:
    """Scans are prepared with body positions that are only roughly right: a tenth of the steps, which take 10 s.

    What the steps are for is tested in test_corpus.py.
    """
    from CTDiffusionLogic.corpus import prepare

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "fit_body_position", partial(prepare.fit_body_position, steps=50))
        yield

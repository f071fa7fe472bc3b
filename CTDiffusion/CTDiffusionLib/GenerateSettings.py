"""What is remembered from one Slicer session to the next: models the user has used, and how fast devices were."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import slicer

_MODELS = "CTDiffusion/Models"
_SPEEDS = "CTDiffusion/Speeds"
#: Models that are remembered, the newest first.
MAX_MODELS = 12


class Store(Protocol):
    """The part of QSettings that is needed."""

    def value(self, key: str, default: Any) -> Any:
        """Return what is stored under ``key``, else ``default``."""

    def setValue(self, key: str, value: Any) -> None:
        """Store ``value`` under ``key``."""


class MemoryStore(dict[str, Any]):
    """A Store for where there is no Slicer application: forgets everything with the process."""

    def value(self, key: str, default: Any) -> Any:
        """Return what is stored under ``key``, else ``default``."""
        return self.get(key, default)

    def setValue(self, key: str, value: Any) -> None:
        """Store ``value`` under ``key``."""
        self[key] = value


class GenerateSettings:
    """Reads and writes them as JSON text, which every kind of QSettings gives back as it was.

    :param store: where; by default Slicer's user settings.
    """

    def __init__(self, store: Store | None = None) -> None:
        app = getattr(slicer, "app", None)
        if store is None:  # an empty one is one, too
            store = app.userSettings() if app is not None else MemoryStore()
        self._store: Store = store

    def models(self) -> list[Path]:
        """Return model files that were used or trained before and are still there, the newest first."""
        found = [Path(path) for path in self._read(_MODELS, list) if isinstance(path, str)]
        return [path for path in found if path.is_file()]

    def rememberModel(self, path: str | Path) -> None:
        """Offer this model from now on: one from a file, or one that a training has made."""
        newest = Path(path).absolute()
        others = [other for other in self.models() if other != newest]
        self._store.setValue(_MODELS, json.dumps([str(one) for one in [newest, *others][:MAX_MODELS]]))

    def secondsPerWork(self, device: str) -> float | None:
        """Return how long a device took for a unit of work (see GenerateEstimate), or None if it is not known.

        :param device: "cpu", "cuda" or "mps".
        """
        seconds = self._read(_SPEEDS, dict).get(device)
        return float(seconds) if isinstance(seconds, int | float) and seconds > 0 else None

    def rememberSecondsPerWork(self, device: str, seconds: float) -> None:
        """Remember how long a device took for a unit of work."""
        self._store.setValue(_SPEEDS, json.dumps({**self._read(_SPEEDS, dict), device: seconds}))

    def _read(self, key: str, kind: type) -> Any:
        try:
            value = json.loads(str(self._store.value(key, "")))
        except ValueError:
            return kind()
        return value if isinstance(value, kind) else kind()

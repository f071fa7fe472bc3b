"""Import a library's module without the rest of the library: half of the seconds before the first slice.

Measured (``python -X importtime``, ``time.process_time``): ``from diffusers import UNet2DModel`` takes 3.5 s of
processor time on top of torch's own 1.9 s, of which the network needs 0.7 s. The rest is torch's compiler, which
diffusers asks for one decorator and does without where there is none, and a hundred transformers, which the packages
around the U-Net import together.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

_log = logging.getLogger(__name__)
#: Packages around the U-Net whose own first lines import all that lies in them.
_PACKAGES = ("diffusers.models.transformers", "diffusers.models.unets")
#: What diffusers tries to import and can do without.
_SPARED = ("torch._dynamo",)


def import_unet() -> Any:
    """Import diffusers' ``UNet2DModel``, narrowly where that works; it is the same class either way.

    Whatever is imported later, from diffusers or torch, is there as if this had never happened.

    Raises:
        ImportError: As ``from diffusers import UNet2DModel`` does.
    """
    loaded = sys.modules.get("diffusers.models.unets.unet_2d")
    if loaded is None:
        try:
            import torch  # noqa: F401  # whole, before anything is withheld

            with absent(_SPARED), not_run(_PACKAGES):
                loaded = importlib.import_module("diffusers.models.unets.unet_2d")
        except Exception as error:  # another version of diffusers may be built otherwise
            _log.debug("narrow import of the U-Net failed: %s", error)
    if loaded is not None and hasattr(loaded, "UNet2DModel"):
        return loaded.UNet2DModel
    from diffusers import UNet2DModel

    return UNet2DModel


@contextmanager
def collector_rests() -> Iterator[None]:
    """Within the block, which imports torch and what else is heavy, Python's garbage collector does nothing.

    What imports make stays; to look through it all again whenever it has grown by a quarter took 0.3 of the 2.4 s of
    processor time of the imports of ``ctdiffusion generate``. Afterwards it is not looked through either. Where torch
    has been imported before, there is little to spare, and nothing is changed.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def absent(names: Sequence[str]) -> Iterator[None]:
    """Within the block, modules of these names cannot be imported, unless they have been before."""
    withheld = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(withheld))  # type: ignore[arg-type]  # None: Python's own way to say so
    try:
        yield
    finally:
        for name in withheld:
            if sys.modules.get(name, ...) is None:
                del sys.modules[name]


@contextmanager
def not_run(packages: Sequence[str]) -> Iterator[None]:
    """Within the block, modules in these packages are imported without the packages' own ``__init__``.

    Packages that have been imported before stay as they are; the others run when they are imported next.

    Raises:
        ImportError: If a package or one around it is not there.
    """
    placed: dict[str, Any] = {}
    try:
        for name in packages:
            if name in sys.modules:
                continue
            spec = importlib.util.find_spec(name)
            if spec is None or spec.submodule_search_locations is None:
                raise ImportError(f"there is no package {name}")
            placed[name] = sys.modules[name] = importlib.util.module_from_spec(spec)
        yield
    finally:
        for name, module in placed.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

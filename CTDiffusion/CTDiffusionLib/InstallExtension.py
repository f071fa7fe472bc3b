"""Slicer's PyTorch extension: whether it is there, how it installs PyTorch, and how it is installed itself.

Its ``installTorch`` is not called: it blocks Slicer for as long as pip works and imports torch into Slicer (read in
its version of April 2024), which can crash Slicer 5.12. What it would hand to light-the-torch is asked of it, and run
by a worker.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging

import slicer

EXTENSION = "PyTorch"
MODULE = "PyTorchUtils"
#: The extension's arguments for light-the-torch where it does not tell them any more.
_FALLBACK = ("install", "torch>={minimum}", "torchvision")


def isLoaded() -> bool:
    """Whether the extension's module can be used now."""
    return importlib.util.find_spec(MODULE) is not None


def needsRestart() -> bool:
    """Whether the extension is installed, and Slicer has to be restarted to see it."""
    return not isLoaded() and bool(slicer.app.extensionsManagerModel().isExtensionInstalled(EXTENSION))


def install() -> bool:
    """Let Slicer install the extension: it asks the user, downloads it (small), and offers to restart.

    :return: whether the extension is installed now.
    """
    model = slicer.app.extensionsManagerModel()
    return bool(model.installExtensionFromServer(EXTENSION) and model.isExtensionInstalled(EXTENSION))


def hasLightTheTorch() -> bool:
    """Whether the package is there with which the extension installs PyTorch."""
    return importlib.util.find_spec("light_the_torch") is not None


def torchWords() -> tuple[str, ...]:
    """Return what the extension would run light-the-torch with, to install PyTorch and torchvision."""
    from CTDiffusionLogic.requirements import CORE

    minimum = next(requirement.minimum for requirement in CORE if requirement.name == "torch")
    fallback = tuple(word.format(minimum=minimum) for word in _FALLBACK)
    try:
        arguments = importlib.import_module(MODULE).PyTorchUtilsLogic._getPipInstallArguments
        options = {"torchVersionRequirement": f">={minimum}"}
        if not set(options) <= set(inspect.signature(arguments).parameters):
            raise TypeError(f"the signature has changed: {inspect.signature(arguments)}")
        words = tuple(map(str, arguments(**options)))
        return words if words[:1] == ("install",) else fallback
    except Exception as error:  # whatever another version does
        logging.warning("CTDiffusion: the PyTorch extension does not say how it installs PyTorch: %s", error)
        return fallback

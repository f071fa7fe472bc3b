"""Examine this machine and installation: what is there, what works, and what to do about the rest.

Standard library only: it must also explain an installation in which torch or NumPy is missing. What
needs torch runs in a process of its own (``python -m CTDiffusionLogic.doctor``), because a broken
installation can crash the process that imports it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import CTDiffusionLogic
from CTDiffusionLogic.bundle import read_header
from CTDiffusionLogic.device import TINY_RESULT, TINY_TOLERANCE, format_bytes, memory
from CTDiffusionLogic.errors import ModelFileError
from CTDiffusionLogic.fidelity.availability import NEEDS, availability
from CTDiffusionLogic.models import bundled_fine_model, bundled_models
from CTDiffusionLogic.requirements import CORE, TRAINING, Requirement, installed_version, is_enough

#: Packages that only a part of the commands needs; any version.
OTHERS = {"monai": "evaluation", "jinja2": "evaluation", "slicer-core": "the demo's scene"}
#: What brings what an evaluation needs.
_EVALUATE_REMEDY = 'Install it with: python -m pip install "ctdiffusion[evaluate]".'
#: What a generation of 256 x 256 pixels needs at least.
ENOUGH_MEMORY = 3 * 2**30
ENOUGH_DISK = 2**30
PROBE_TIMEOUT_S = 300

Status = Literal["ok", "note", "problem"]
Cause = Literal["", "missing", "outdated", "broken"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Args:
        name: Short name, such as "torch".
        status: "ok"; "note", worth knowing; "problem", CTDiffusion cannot work like this.
        text: What was found.
        remedy: What to do about it; empty when ok.
        cause: Of what is wrong with a package, for programs; "broken" also where computing fails.
    """

    name: str
    status: Status
    text: str
    remedy: str = ""
    cause: Cause = ""


def examine(*, generate: bool = False) -> Iterator[Check]:
    """Yield one check after the other, quick ones first; never raises because of what it finds.

    Args:
        generate: Whether one tiny slice is generated, too.
    """
    yield Check("ctdiffusion", "ok", f"{CTDiffusionLogic.__version__} in {Path(CTDiffusionLogic.__file__).parent}")
    yield _check_python()
    yield Check("system", "ok", f"{platform.system()} {platform.release()}, {platform.machine()}")
    yield _check_memory()
    yield from _check_disk()
    yield from _check_packages()
    yield from _check_models()
    yield from _check_extractors()
    yield from _check_computing(generate=generate)


def _check_python() -> Check:
    return Check("python", "ok", f"{platform.python_version()} at {sys.executable}")


def _check_memory() -> Check:
    total, free = memory("cpu")
    if not total or free is None:
        return Check("memory", "note", "unknown on this system")
    text = f"{format_bytes(free)} free of {format_bytes(total)}"
    if free < ENOUGH_MEMORY:
        return Check("memory", "note", text, "Generating needs up to 3 GB; close other programs.")
    return Check("memory", "ok", text)


def _check_disk() -> Iterator[Check]:
    places = {"disk (temporary files)": Path(tempfile.gettempdir()), "disk (current folder)": Path.cwd()}
    for name, place in places.items():
        free = shutil.disk_usage(place).free
        text = f"{format_bytes(free)} free in {place}"
        if free < ENOUGH_DISK:
            yield Check(name, "note", text, "Free some space; a volume takes 10 to 500 MB.")
        else:
            yield Check(name, "ok", text)


def _check_packages() -> Iterator[Check]:
    for requirement in CORE:
        yield _check_package(requirement, "problem")
    for requirement in TRAINING:
        yield _check_package(requirement, "note")
    for package, purpose in OTHERS.items():
        version = installed_version(package)
        remedy = _EVALUATE_REMEDY if purpose == "evaluation" and not version else ""
        yield Check(
            package, "ok" if version else "note", version or f"not installed; only needed for {purpose}", remedy
        )


def _check_package(requirement: Requirement, otherwise: Status) -> Check:
    name, version = requirement.name, installed_version(requirement.name)
    if version is not None and is_enough(version, requirement.minimum):
        return Check(name, "ok", version)
    where = " (in 3D Slicer: the PyTorch extension)" if name == "torch" else ""
    if version is None:
        only = "only " if otherwise == "note" else ""
        remedy = f"Install it with: python -m pip install {name}{where}."
        return Check(name, otherwise, f"not installed; {only}needed for {requirement.purpose}", remedy, "missing")
    remedy = f'Update it with: python -m pip install "{requirement}"{where}.'
    text = f"{version} is too old; needed for {requirement.purpose}: at least {requirement.minimum}"
    return Check(name, otherwise, text, remedy, "outdated")


def _check_models() -> Iterator[Check]:
    models = bundled_models()
    if not models:
        yield Check(
            "bundled model", "note", "none in this installation", "Name a model file with --model when generating."
        )
    for name, path in (models | bundled_fine_model()).items():
        try:
            header = read_header(path)
            what = "{} to {} pixels, ".format(*header.fine_sizes()) if header.is_fine else ""
        except ModelFileError as error:
            yield Check(f"model {name}", "problem", error.message, "Install CTDiffusion again.")
        else:
            size = format_bytes(path.stat().st_size)
            yield Check(f"model {name}", "ok", f"{what}sha256 {header.sha256[:12]}, {size}")


def _check_extractors() -> Iterator[Check]:
    """Which features `ctdiffusion evaluate` can use; the first is its default, the others are asked for."""
    for name in NEEDS:
        found = availability(name)
        yield Check(f"features {name}", "ok" if found.complete else "note", found.text, found.remedy)


def _check_computing(*, generate: bool = False) -> Iterator[Check]:
    """What the probe process says of libraries, devices and models; or why it says nothing."""
    if installed_version("torch") is None:
        yield Check("computing", "problem", "not possible without torch", "Install torch first (see above).")
        return
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    root = str(Path(CTDiffusionLogic.__file__).parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH", "")]))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "CTDiffusionLogic.doctor", *(["--generate"] if generate else [])],
            env=environment,
            capture_output=True,
            text=True,
            timeout=PROBE_TIMEOUT_S,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        yield Check("computing", "problem", f"the test process did not end well: {error}", _REINSTALL, "broken")
        return
    found = [Check(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith('{"name"')]
    yield from found
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        text = f"the test process ended with code {done.returncode}: {last}"
        yield Check("computing", "problem", text, _REINSTALL, "broken")


_REINSTALL = "Reinstall PyTorch: python -m pip install --force-reinstall --no-cache-dir torch."


def _probe(*, generate: bool = False) -> Iterator[Check]:
    """What must be imported and computed to be known; runs in the probe process."""
    yield from _probe_imports()
    from CTDiffusionLogic.device import import_torch

    torch = import_torch()
    threads = torch.get_num_threads()
    yield Check("threads", "ok", f"{threads} for computing, {os.cpu_count()} logical cores")
    devices = ["cpu"]
    if torch.cuda.is_available():
        devices += [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    for name in devices:
        yield _probe_device(name)
    if len(devices) == 1:
        cuda = torch.version.cuda
        why = "built without CUDA" if cuda is None else f"built for CUDA {cuda}, but finds no GPU it can drive"
        yield Check("GPU", "note", f"none (PyTorch is {why}); the CPU is used")
    for name, path in (bundled_models() | bundled_fine_model()).items():
        yield _probe_model(name, path)
    if generate:
        yield _probe_generation()


def _probe_imports() -> Iterator[Check]:
    broken: set[str] = set()
    for requirement in CORE:
        if installed_version(requirement.name) is None:
            continue  # said already
        try:
            importlib.import_module(requirement.module)
        except Exception as error:
            culprit = _culprit(error, requirement).name
            if culprit in broken or installed_version(culprit) is None:
                continue  # a consequence of what was said already
            broken.add(culprit)
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            remedy = f"Reinstall it: python -m pip install --force-reinstall {culprit}."
            yield Check(culprit, "problem", f"installed but does not import ({cause})", remedy, "broken")


def _culprit(error: BaseException, requirement: Requirement) -> Requirement:
    """Return which package is to blame for an import that failed: diffusers, say, imports safetensors."""
    while (origin := error.__cause__ or error.__context__) is not None:
        error = origin
    known = {other.module: other for other in CORE}
    absent = known.get((error.name or "").partition(".")[0]) if isinstance(error, ModuleNotFoundError) else None
    if absent is not None and installed_version(absent.name) is None:
        return absent
    for frame, _ in traceback.walk_tb(error.__traceback__):
        requirement = known.get(str(frame.f_globals.get("__name__")).partition(".")[0], requirement)
    return requirement


def _probe_device(name: str) -> Check:
    from CTDiffusionLogic.device import describe_device, tiny_computation

    try:
        result = tiny_computation(name)
        text = f"{describe_device(name)}: computes {result:.3f}, expected {TINY_RESULT}"
    except Exception as error:
        remedy = "Update the driver or PyTorch; until then use --device cpu." if name != "cpu" else _REINSTALL
        text = f"does not compute ({str(error).splitlines()[0]})"
        if name == "cpu":
            return Check(f"device {name}", "problem", text, remedy, "broken")
        return Check(f"device {name}", "note", text, remedy)
    if not abs(result - TINY_RESULT) <= TINY_TOLERANCE:
        return Check(f"device {name}", "problem", text, "Do not use this device; check it and its driver.")
    return Check(f"device {name}", "ok", text)


def _probe_model(name: str, path: Path) -> Check:
    from CTDiffusionLogic.bundle import load_denoiser, load_model

    try:
        model = load_model(path)
        for stage in model.card["stages"]:
            load_denoiser(model, stage)
    except Exception as error:
        return Check(f"model {name} loads", "problem", str(error).splitlines()[0], "Install CTDiffusion again.")
    return Check(f"model {name} loads", "ok", "yes")


def _probe_generation() -> Check:
    from CTDiffusionLogic.self_test import generate_one_slice

    try:
        return Check("generation", "ok", generate_one_slice())
    except Exception as error:
        text = f"a tiny slice could not be generated ({type(error).__name__}: {error})".splitlines()[0]
        return Check("generation", "problem", text, "Install CTDiffusion again; if that does not help, report this.")


if __name__ == "__main__":
    for check in _probe(generate="--generate" in sys.argv[1:]):
        print(json.dumps(asdict(check)), flush=True)

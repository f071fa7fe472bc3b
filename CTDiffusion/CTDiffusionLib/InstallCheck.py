"""What the doctor's checks mean for the user: everything is there, something is missing, something is broken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from slicer.i18n import tr as _

from .GenerateDevices import DeviceFinder
from .InstallPlan import accelerator


@dataclass(frozen=True)
class InstallState:
    """The state of the installation.

    :param kind: "unknown": nobody has looked; "checking": somebody looks; "incomplete": packages are missing, too old
        or broken; "failed": packages are there, and it does not work; "ready".
    :param text: the same in a sentence or two, for people.
    :param missing: packages that are missing or too old, those that only training and measuring need as well.
    :param broken: packages that are there and do not work.
    """

    kind: Literal["unknown", "checking", "incomplete", "failed", "ready"]
    text: str
    missing: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()


def stateOf(finder: DeviceFinder) -> InstallState:
    """Read the doctor's findings.

    :param finder: what has asked the doctor, or will.
    """
    if finder.isAsking:
        return InstallState("checking", _("Looking at what is installed..."))
    if not finder.isKnown:
        return InstallState("unknown", _("Nobody has looked yet at what is installed."))
    from CTDiffusionLogic.requirements import EVALUATION

    checks = {str(check["name"]): check for check in finder.checks}
    problems = [check for check in finder.checks if check["status"] == "problem"]
    optional = {requirement.name for requirement in EVALUATION}
    lacking = [
        str(check["name"])
        for check in finder.checks
        if check.get("cause") in ("missing", "outdated") or (check["name"] in optional and check["status"] == "note")
    ]
    missing = tuple(dict.fromkeys(lacking))  # a package may be named again for another purpose
    broken = _brokenPackages(problems)
    needed = [name for name in missing if checks[name]["status"] == "problem"]
    if needed or broken:
        return InstallState("incomplete", _lackText(checks, needed, broken), missing, broken)
    others = [check for check in problems if check["name"] != "computing"]
    if finder.problem or others:
        text = finder.problem or "{name}: {text}. {remedy}".format(**others[0])
        return InstallState("failed", _("It does not work: {reason}").format(reason=text), missing)
    return InstallState("ready", _readyText(finder, checks, missing), missing)


def _brokenPackages(problems: list[Mapping[str, Any]]) -> tuple[str, ...]:
    """Packages to install again; where computing fails as a whole, that is PyTorch."""
    names = [str(check["name"]) for check in problems if check.get("cause") == "broken"]
    return tuple(dict.fromkeys("torch" if name.split()[0] in ("computing", "device") else name for name in names))


def _lackText(checks: Mapping[str, Mapping[str, Any]], needed: list[str], broken: tuple[str, ...]) -> str:
    words = []
    if needed:
        words.append(_("Missing: {names}.").format(names=", ".join(map(nameForPeople, needed))))
    for name in broken:
        check = next(c for n, c in checks.items() if c.get("cause") == "broken" and _brokenPackages([c]) == (name,))
        words.append(_("Broken: {name}: {reason}.").format(name=nameForPeople(name), reason=check["text"]))
    return " ".join(words)


def _readyText(finder: DeviceFinder, checks: Mapping[str, Mapping[str, Any]], missing: tuple[str, ...]) -> str:
    torch = str(checks["torch"]["text"]) if "torch" in checks else ""
    device = finder.automatic()
    words = [_("Ready: PyTorch {version}, {device}.").format(version=torch, device=device and device.description)]
    if missing:
        names = ", ".join(map(nameForPeople, missing))
        words.append(_("Training and measuring need besides: {names}.").format(names=names))
    if "GPU" in checks and accelerator() == "cuda":
        reason = str(checks["GPU"]["text"])
        words.append(_("There is an NVIDIA graphics card that is not used: {reason}.").format(reason=reason))
        words.append(_("Update its driver, or press Repair for the build of PyTorch that uses it."))
    if "generation" in checks:
        words.append(_("Test passed: {what}.").format(what=checks["generation"]["text"]))
    return " ".join(words)


def nameForPeople(package: str) -> str:
    """Return what people call a package."""
    return {"torch": "PyTorch"}.get(package, package)

"""How a command of an installation ended, in words for the user; pip's own are for developers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from slicer.i18n import tr as _

from .JobEnding import KILLED, JobEnding

#: What pip and Python write, with the code of the failure that it means; the first that is found counts.
_SIGNS = (
    ("no-space", r"No space left on device|Errno 28\b|WinError 112\b|Disk quota exceeded"),
    ("long-path", r"WinError 206\b|Long Path support|filename or extension is too long"),
    ("in-use", r"WinError (5|32)\b|being used by another process"),
    ("no-permission", r"Permission denied|Errno 13\b|Read-only file system|Errno 30\b"),
    ("proxy", r"ProxyError|Proxy Authentication Required|Cannot connect to proxy"),
    ("certificate", r"CERTIFICATE_VERIFY_FAILED|SSLError|SSLCertVerificationError"),
    (
        "no-network",
        r"NewConnectionError|NameResolutionError|Failed to establish a new connection|Connection refused"
        r"|ConnectTimeout|Read timed out|ReadTimeout|Connection aborted|ConnectionReset|getaddrinfo failed"
        r"|Temporary failure in name resolution|Network is unreachable|Failed to connect to",
    ),
    ("conflict", r"ResolutionImpossible|conflicting dependencies"),
    ("not-found", r"No matching distribution found for|Could not find a version that satisfies"),
    ("no-pip", r"No module named '?(pip|light_the_torch)\b"),
)


def endingOf(
    _last: Any,
    exitCode: int | None,
    *,
    stopReason: str = "",
    startError: Exception | None = None,
    output: Sequence[str] = (),
) -> JobEnding:
    """Say how a command ended; called like JobEnding.endingOf.

    :param exitCode: of the process; None if it did not start.
    :param stopReason: why we ended it, if we did.
    :param startError: what kept it from starting.
    :param output: all that it said.
    """
    if stopReason:
        return JobEnding("cancelled", stopReason, code="cancelled")
    if startError is not None:
        message = _("The installation could not be started: {error}").format(error=startError)
        return JobEnding("failed", message, _("Check that this Slicer is installed completely."), "no-start")
    if exitCode == 0:
        return JobEnding("finished")
    if exitCode in KILLED:
        return JobEnding(
            "failed",
            _("The installation was ended from outside, most likely by the system because memory ran out."),
            _("Close other programs and press Retry. What was half installed is completed, or press Repair."),
            "killed",
        )
    said = "\n".join(output)
    code = next((code for code, pattern in _SIGNS if re.search(pattern, said, re.IGNORECASE)), "failed")
    message, remedy = _words(code, exitCode, output)
    return JobEnding("failed", message, remedy, code)


def _words(code: str, exitCode: int | None, output: Sequence[str]) -> tuple[str, str]:
    """Return message and remedy of a failure."""
    package = next((found[1] for line in output if (found := re.search(_PACKAGE, line))), _("a package"))
    known = {
        "no-space": (
            _("There is no space left on the disk."),
            _("Free some space where Slicer is installed and where temporary files go, then press Retry."),
        ),
        "long-path": (
            _("Windows does not allow paths that long."),
            _("Install Slicer in a folder with a short path, such as C:\\Slicer, or allow long paths in Windows."),
        ),
        "in-use": (
            _("A file is in use, most likely by a module that has loaded PyTorch into Slicer."),
            _("Restart Slicer and press Install or Repair before you use other modules."),
        ),
        "no-permission": (
            _("You may not write into Slicer's folder."),
            _("Install Slicer where you may write, or let an administrator start Slicer and press Install."),
        ),
        "proxy": (
            _("The proxy of your network refused the connection."),
            _("Set HTTPS_PROXY to your proxy with name and password, restart Slicer, and press Retry."),
        ),
        "certificate": (
            _("The connection is not trusted: a firewall or proxy answers with a certificate of its own."),
            _("Ask your IT department for the certificate and set PIP_CERT to its file; or install from a folder."),
        ),
        "no-network": (
            _("The package server cannot be reached."),
            _("Check the network and press Retry; or see Without a network below."),
        ),
        "conflict": (
            _("Packages that are installed here do not go together with what CTDiffusion needs."),
            _("The log names them. Remove the extension that needs the other version, or use a fresh Slicer."),
        ),
        "not-found": (
            _("{package} was not found in a version for this system and Slicer's Python.").format(package=package),
            _("Check the network, or that the folder of packages was filled on the same system; then press Retry."),
        ),
        "no-pip": (
            _("This Slicer lacks a part of its Python: {line}").format(line=_lastLine(output)),
            _("Install Slicer again, or press Install and choose to install without the extension."),
        ),
    }
    otherwise = (
        _("pip ended with code {code}: {line}").format(code=exitCode, line=_lastLine(output)),
        _("Press Retry; if that does not help, press Repair, and report the log."),
    )
    return known.get(code, otherwise)


#: The name of the package that pip could not find.
_PACKAGE = r"(?:No matching distribution found for|satisfies the requirement) ([A-Za-z0-9_.-]+)"


def _lastLine(output: Sequence[str]) -> str:
    lines = [line.strip() for line in output if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or [_("nothing was said")])[-1]

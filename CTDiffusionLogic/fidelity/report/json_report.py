"""The report for programs: one JSON document, described by ``schema.json`` beside this file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from CTDiffusionLogic.fidelity.findings import GROUPS, Report
from CTDiffusionLogic.fidelity.report.galleries import PNG_URI
from CTDiffusionLogic.fidelity.report.standing import RULE, standing_of, standing_of_section

FORMAT = "ctdiffusion-fidelity"
#: Raised when older readers could no longer read what is written; fields may be added without.
FORMAT_VERSION = 1
NOTICE = "Synthetic CT is for research only and must never be used for diagnosis or treatment."
SCHEMA_FILE = Path(__file__).with_name("schema.json")


def to_json(report: Report) -> str:
    """The report as JSON text; numbers that are not finite become null."""
    return json.dumps(to_data(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_data(report: Report) -> dict[str, Any]:
    """The report as plain JSON data, as ``schema.json`` says."""
    sections = []
    for section in report.sections:
        data = section.to_dict()
        for figure, written in zip(section.figures, data["figures"], strict=True):
            written["standing"] = standing_of(figure)
        sections.append({**data, "standing": standing_of_section(section)})
    return plain(
        {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "notice": NOTICE,
            "created": report.created,
            "command": report.command,
            "seed": report.seed,
            "versions": report.versions,
            "machine": report.machine,
            "rule": RULE,
            "counts": {
                group: {"volumes": len(report.volumes(group)), "patients": report.patients(group)} for group in GROUPS
            },
            "protocol": report.protocol,
            "inputs": [asdict(volume) for volume in report.inputs],
            "left_out": [asdict(item) for item in report.left_out],
            "warnings": report.warnings,
            "sections": sections,
            "seconds": {name: round(value, 2) for name, value in report.seconds.items()},
        }
    )


def plain(value: Any) -> Any:
    """Reduce to what JSON has: arrays to lists, paths to text, what is not a number to null; pictures are left out."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if not _is_picture(item)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):  # array or NumPy/torch scalar
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _is_picture(value: Any) -> bool:
    """Pictures show patients: they belong into the page that says so."""
    return isinstance(value, str) and value.startswith(PNG_URI)

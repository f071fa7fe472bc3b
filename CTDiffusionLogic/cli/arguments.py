"""Argument types and options that several subcommands share; standard library only."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import CTDiffusionLogic
from CTDiffusionLogic.device import check_device_name
from CTDiffusionLogic.errors import UsageError


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """An argparse type: an int from ``low`` to ``high``."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"needs a whole number, got {text!r}") from None
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low} to {high}, got {value}")
        return value

    return parse


def number(low: float, high: float, unit: str = "") -> Callable[[str], float]:
    """An argparse type: a finite float from ``low`` to ``high``."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"needs a number, got {text!r}") from None
        if not math.isfinite(value) or not low <= value <= high:
            raise argparse.ArgumentTypeError(f"must be from {low:g} to {high:g}{unit and ' ' + unit}, got {text}")
        return value

    return parse


def device_name(text: str) -> str:
    """An argparse type: a device name, checked without torch."""
    try:
        return check_device_name(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{error.message.rstrip('.')}: {error.remedy.rstrip('.')}") from None


def add_device_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --device and --threads."""
    parser.add_argument(
        "--device", type=device_name, default="auto", help="auto, cpu, cuda, cuda:1 or mps (default: auto)"
    )
    parser.add_argument("--threads", type=whole_number(1, 1024), metavar="N", help="CPU threads (default: all cores)")


def add_cancel_argument(parser: argparse.ArgumentParser) -> None:
    """Add --cancel-file."""
    parser.add_argument(
        "--cancel-file", type=Path, metavar="FILE", help="stop cleanly when this file appears, as Ctrl-C does"
    )


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what every subcommand has: --events and --version."""
    parser.add_argument(
        "--events",
        choices=("text", "json"),
        default="text",
        help="json: one JSON event a line on stdout, for programs (default: text)",
    )
    parser.add_argument("--version", action="version", version=f"ctdiffusion {CTDiffusionLogic.__version__}")

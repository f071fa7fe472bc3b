"""Slabs beside independent slices: one picture of what generating slab by slab is good for.

    python Testing/benchmarks/slabs_beside_slices.py --real SCAN... [--model MODEL] [--slices 64] [--out PICTURE.png]

The model makes one volume twice, at the same place along the body as the first scan and with the same seed: as usual,
and every slice alone (`ctdiffusion generate --independent-slices`). Left in the picture are coronal and sagittal cuts
of the scan and of both volumes, right the mean |dHU| of slices inside the body over their distance, with all scans
that cover the place. All are on the model's grid. It prints the numbers, and the verdict of `ctdiffusion evaluate`.
Independent slices cost about as many passes as slices times a slab: some minutes for 64; --volumes keeps both volumes.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from CTDiffusionLogic.bundle import load_model
from CTDiffusionLogic.card_figures import digests_of
from CTDiffusionLogic.device import choose_device, set_threads
from CTDiffusionLogic.errors import CTDiffusionError, InputError
from CTDiffusionLogic.fidelity.body_grid import PIXEL_MM, body_grid
from CTDiffusionLogic.fidelity.coherence import compare_coherence, measure_coherence
from CTDiffusionLogic.fidelity.independent import independent_slices
from CTDiffusionLogic.fidelity.report.figures import STYLES
from CTDiffusionLogic.fidelity.report.galleries import middle_plane, to_grey
from CTDiffusionLogic.fidelity.results import Plane
from CTDiffusionLogic.fidelity.slice_pairs import measure_pairs
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, generate
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.training.fidelity_scans import cut_stretch, find_stretches, scans_of_files
from CTDiffusionLogic.volume import AIR_HU
from CTDiffusionLogic.volume_io import read_volume, write_volume

REPOSITORY = Path(__file__).resolve().parents[2]
PICTURE = REPOSITORY / "Resources" / "Screenshots" / "slabs_and_slices.png"
#: A picture in the README should not weigh more.
MOST_BYTES = 300_000
#: Distances of slices in the curve: so many steps, up to half of the volume.
MOST_STEPS = 16
REAL, SLABS, ALONE = "real scan", "slab by slab", "slice by slice, each alone"
_IN_TWO_LINES = {ALONE: "slice by slice,\neach alone"}
_CUTS: tuple[Plane, ...] = ("coronal", "sagittal")
_STAMP: dict[str, Any] = {"color": "#FFC733", "bbox": {"facecolor": "black", "alpha": 0.6, "pad": 1.5, "linewidth": 0}}
#: Shown around the body.
MARGIN_MM = 12.0
_STYLE = {REAL: STYLES["real"], SLABS: STYLES["synthetic"], ALONE: STYLES["independent slices"]}


@dataclass(frozen=True)
class Curve:
    """Mean |dHU| inside the body over distance: the middle of a group's volumes, and where they lie."""

    distances_mm: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    volumes: int


def main() -> None:
    """Make both volumes, measure, print, draw."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--real", nargs="+", type=Path, required=True, help="scans; the first one is shown")
    parser.add_argument("--model", help="a model file or a bundled name; default: the bundled one")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--spacing-mm", type=float, default=3.0, help="near which the first scan's slices are taken")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--steps", type=int, help="of the anatomy stage (default: the model's)")
    parser.add_argument("--detail-steps", type=int, help="of the detail stage (default: the model's)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--volumes", type=Path, help="folder where both volumes are kept, and found again")
    parser.add_argument("--out", type=Path, default=PICTURE)
    args = parser.parse_args()
    set_threads(args.threads)
    try:
        groups, title = make_groups(args)
    except CTDiffusionError as error:
        sys.exit(str(error))
    curves = {name: measure_curve(volumes) for name, volumes in groups.items()}
    print_numbers(curves, groups)
    args.out.write_bytes(draw({name: volumes[0] for name, volumes in groups.items()}, curves, title))
    print(f"{args.out}: {args.out.stat().st_size / 1e3:.0f} kB")


def make_groups(args: argparse.Namespace) -> tuple[dict[str, list[LabVolume]], str]:
    """Stretches of the scans, and both volumes, by group; and a line about them."""
    path = find_model(args.model)
    file = load_model(path)
    scans = scans_of_files(args.real[:1], file)  # one after the other: a search has an order of its own
    scans += scans_of_files(args.real[1:], file) if args.real[1:] else []
    first = scans[0]
    spacing = first.every(args.spacing_mm) * first.gap_mm
    low, high = (float(v) for v in file.card["plan"]["body_mm_range"])
    half = args.slices * spacing / 2
    place = float(
        np.clip(first.body_mm + (len(first.hu) - 1) * first.gap_mm / 2, low + half, max(low + half, high - half))
    )
    stretches = find_stretches(scans, [place], spacing_mm=spacing, extent_mm=args.slices * spacing)
    if not stretches or stretches[0].scan != 0:
        raise InputError(
            f"{args.real[0]} has no {args.slices} slices {spacing:g} mm apart.", remedy="Take --slices down."
        )
    real = [cut_stretch(scans[stretch.scan], stretch) for stretch in stretches]
    request = GenerationRequest(
        slices=args.slices,
        spacing_mm=spacing,
        seed=args.seed,
        body_mm=place,
        steps=args.steps,
        detail_steps=args.detail_steps,
    )
    model = GenerationModel.from_file(file, choose_device(args.device))
    made = {}
    for name, make, stem in ((SLABS, generate, "slabs"), (ALONE, independent_slices, "alone")):
        kept = args.volumes / f"{stem}.nrrd" if args.volumes else None
        volume = read_volume(kept) if kept and kept.exists() else None
        if volume is None or not _is_this(volume.metadata, request, volume.shape, digests_of(path)):
            began = time.monotonic()
            volume = make(model, request)
            print(f"{name}: {args.slices} slices made in {time.monotonic() - began:.0f} s", flush=True)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                write_volume(volume, kept)
        made[name] = [to_lab_volume(volume, id=stem)]
    title = f"{file.name} {file.sha256[:12]}, {args.slices} slices {spacing:g} mm apart, seed {args.seed}"
    return {REAL: real, **made}, title


def _is_this(
    facts: Mapping[str, str], request: GenerationRequest, shape: Sequence[int], digests: Sequence[str]
) -> bool:
    """Whether a kept volume is what is asked for."""
    wanted = {"seed": request.seed, "steps": request.steps, "detail_steps": request.detail_steps}
    same = all(value is None or facts.get(key) == str(value) for key, value in wanted.items())
    place = facts.get("body_mm") == f"{request.body_mm:.1f}"
    return same and place and shape[0] == request.slices and facts.get("model_sha256") in digests


def measure_curve(volumes: Sequence[LabVolume]) -> Curve:
    """Mean |dHU| over the distances that the first volume has; other volumes at the same distances where they can."""
    gap, count = volumes[0].spacing_mm[0], len(volumes[0].hu)
    distances = [gap * step for step in range(1, min(MOST_STEPS, count // 2) + 1)]
    rows = []
    for volume in volumes:
        found = measure_pairs(body_grid(volume, pixel_mm=PIXEL_MM), distances)
        rows.append([found[d].mean_difference if d in found else np.nan for d in distances])
    values = np.array(rows)
    return Curve(
        distances,
        np.nanmean(values, axis=0).tolist(),
        np.nanmin(values, axis=0).tolist(),
        np.nanmax(values, axis=0).tolist(),
        len(volumes),
    )


def print_numbers(curves: Mapping[str, Curve], groups: Mapping[str, Sequence[LabVolume]]) -> None:
    """The curves as a table, and what an evaluation says."""
    print(f"\nmean |dHU| inside the body{'':<8}" + "".join(f"{d:>8.1f} mm" for d in curves[REAL].distances_mm))
    for name, curve in curves.items():
        print(f"{name:<34}" + "".join(f"{value:>11.1f}" for value in curve.mean))
    measures = {name: [measure_coherence(volume) for volume in volumes] for name, volumes in groups.items()}
    section = compare_coherence(measures[REAL], measures[SLABS], independent=measures[ALONE], rounds=0)
    print(f"\n{section.verdict}\n")


def draw(volumes: Mapping[str, LabVolume], curves: Mapping[str, Curve], title: str) -> bytes:
    """The picture, a PNG of at most :data:`MOST_BYTES`."""
    canvas = Figure(figsize=(12, 6.4), dpi=100, facecolor="white")
    wide = {plane: max(_width_mm(volume, plane) for volume in volumes.values()) for plane in _CUTS}
    high = max(volume.extent_mm[0] for volume in volumes.values())
    cuts = 6.9  # inches for both cuts of a row, or as wide as three rows leave it
    cuts = min(cuts, 5.0 / len(volumes) / high * sum(wide.values()))
    scale = cuts / sum(wide.values())
    height, left = high * scale, 0.75
    pitch = max(height + 0.08, 5.0 / len(volumes))  # low stacks stand as far apart as high ones
    for row, (name, volume) in enumerate(volumes.items()):
        bottom, start = 5.75 - row * pitch - height, left
        for plane in _CUTS:
            width = wide[plane] * scale
            axes = canvas.add_axes((start / 12, bottom / 6.4, width / 12, height / 6.4))
            hu, (dz, pixel) = middle_plane(volume, plane)
            axes.imshow(
                to_grey(_around(hu, volume, plane, wide[plane])), cmap="gray", aspect=dz / pixel, vmin=0, vmax=255
            )
            axes.set_xticks([])
            axes.set_yticks([])
            if row == 0:
                axes.set_title(plane, fontsize=11)
            if plane == _CUTS[0]:
                axes.set_ylabel(_IN_TWO_LINES.get(name, name), fontsize=11, color=_STYLE[name][0])
            if name != REAL:
                axes.text(0.02, 0.96, "SYNTHETIC", transform=axes.transAxes, va="top", fontsize=8, **_STAMP)
            start += width + 0.08
    start += 0.75
    axes = canvas.add_axes((start / 12, 0.75 / 6.4, (11.85 - start) / 12, 5.0 / 6.4))
    for name, curve in curves.items():
        colour, dashes = _STYLE[name]
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "linewidth": 2, "marker": "o", "markersize": 4}
        axes.plot(curve.distances_mm, curve.mean, label=name, **style)
        if curve.volumes > 1:
            axes.fill_between(curve.distances_mm, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
    axes.set_xlabel("distance of two slices, mm")
    axes.set_ylabel("mean |dHU| inside the body, HU")
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=10)
    canvas.text(left / 12, 6.05 / 6.4, "Do neighbouring slices belong together?", fontsize=14)
    count = curves[REAL].volumes
    band = f"; band: {count} real scans" if count > 1 else ""
    canvas.text(left / 12, 0.12 / 6.4, f"{title}; window -1000 to 400 HU{band}", fontsize=9, color="#555555")
    FigureCanvasAgg(canvas)
    stream = io.BytesIO()
    canvas.savefig(stream, format="png")
    return _small(Image.open(stream))


def _width_mm(volume: LabVolume, plane: Plane) -> float:
    """How wide the body is in a cut, with a margin."""
    body = volume.body
    first, last = (body.left, body.right) if plane == "coronal" else (body.top, body.bottom)
    return min(last - first + 2 * MARGIN_MM, volume.extent_mm[2 if plane == "coronal" else 1])


def _around(hu: NDArray, volume: LabVolume, plane: Plane, width_mm: float) -> NDArray:
    """Columns of a cut, ``width_mm`` around the body's middle; air where the volume ends."""
    axis = 2 if plane == "coronal" else 1
    spacing, middle = volume.spacing_mm[axis], volume.body.centre[1 if plane == "coronal" else 0]
    places = np.arange(round(width_mm / spacing)) + round((middle - width_mm / 2) / spacing)
    inside = (places >= 0) & (places < hu.shape[1])
    return np.where(inside, hu[:, np.clip(places, 0, hu.shape[1] - 1)], AIR_HU)


def _small(picture: Image.Image) -> bytes:
    """A PNG with as many colours as the limit allows."""
    content = b""
    for colours in (256, 128, 64, 32, 16):
        stream = io.BytesIO()
        picture.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(stream, format="PNG", optimize=True)
        content = stream.getvalue()
        if len(content) <= MOST_BYTES:
            break
    return content


if __name__ == "__main__":
    main()

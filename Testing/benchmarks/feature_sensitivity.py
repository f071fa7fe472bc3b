"""What an extractor sees: Fréchet distances of growing faults, beside the distance between patients.

    python Testing/benchmarks/feature_sensitivity.py --reference TRAINING_SCANS... --test HELD_OUT_SCANS... \
        [--extractor ctfeatures]

Two tables, mean of the planes. *Same scans*: test scans with the fault against the same without it; must grow from 0.
*Other scans*: test scans with the fault against the reference; begins at the distance between patients and must grow
once the fault is larger than what patients differ in.

The bundled network (84613683751c) on the two patients it was not trained on, chest_lidc0314 and abd_cptacpda00189 of
the real scans, 16 images per volume and plane, pixels of 1.56 mm (axial) and 5 mm, same scans::

    blur, mm         0.5    1     1.5   2     3      4        0.6    31   62   82   112   133
    noise, HU        10     20    40    60    80     120      0.02   0.1  0.7  2.0  4.1   10.5
    HU shift, HU     10     25    50    75    100    150      0.3    2.0  8.1  18   33    74
    spacing, %       5      10    15    20    30     40       85     93   102  113  127   141

Axial images of two patients at equal pixels (2.15 mm) differ by 19 to 214, the halves of one scan by 1 to 2. White
noise below 40 HU is hardly seen where pixels average several voxels and scans have noise of their own; wrong spacing
is seen mostly by the softness of interpolated pixels.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from CTDiffusionLogic.fidelity.extractors import Extractor, get_extractor
from CTDiffusionLogic.fidelity.frechet import frechet_distance
from CTDiffusionLogic.fidelity.planes import Protocol, choose_protocol, cut_planes
from CTDiffusionLogic.fidelity.results import PLANES, Plane
from CTDiffusionLogic.fidelity.volumes import LabVolume, to_lab_volume
from CTDiffusionLogic.scan_search import find_scans
from CTDiffusionLogic.volume import to_hu_int16


def blurred(volume: LabVolume, mm: float) -> LabVolume:
    """Gaussian of ``mm`` standard deviation in all directions."""
    sigma = [mm / spacing for spacing in volume.spacing_mm]
    return replace(volume, hu=to_hu_int16(ndimage.gaussian_filter(volume.hu.astype(np.float32), sigma)))


def noisy(volume: LabVolume, hu: float) -> LabVolume:
    """White noise of ``hu`` standard deviation."""
    noise = np.random.default_rng(0).standard_normal(volume.hu.shape, dtype=np.float32)
    return replace(volume, hu=to_hu_int16(volume.hu + hu * noise))


def offset(volume: LabVolume, hu: float) -> LabVolume:
    """``hu`` added to all voxels."""
    return replace(volume, hu=to_hu_int16(volume.hu + np.float32(hu)))


def misspaced(volume: LabVolume, percent: float) -> LabVolume:
    """Spacing claimed too small by ``percent``, all axes: what is shown is larger than it is."""
    factor = 1 + percent / 100
    body = replace(volume.body, **{edge: getattr(volume.body, edge) * factor for edge in volume.body.__dict__})
    z, y, x = (spacing * factor for spacing in volume.spacing_mm)
    return replace(volume, spacing_mm=(z, y, x), body=body)


#: Fault: unit, severities, function.
FAULTS: dict[str, tuple[str, Sequence[float], Callable[[LabVolume, float], LabVolume]]] = {
    "blur": ("mm", (0.5, 1.0, 1.5, 2.0, 3.0, 4.0), blurred),
    "noise": ("HU", (10, 20, 40, 60, 80, 120), noisy),
    "HU shift": ("HU", (10, 25, 50, 75, 100, 150), offset),
    "spacing": ("%", (5, 10, 15, 20, 30, 40), misspaced),
}


Features = dict[Plane, NDArray[np.float32]]


def features_of(volumes: Sequence[LabVolume], protocol: Protocol, extractor: Extractor) -> Features:
    """Features of all volumes' images, per plane (n, D)."""
    parts: dict[Plane, list[NDArray[np.float32]]] = {plane: [] for plane in PLANES}
    for volume in volumes:
        for plane, images in cut_planes(volume, protocol).items():
            parts[plane].append(extractor.features(images, protocol.pixel_of(plane)))
    return {plane: np.concatenate(rows) for plane, rows in parts.items()}


def distance(first: Features, second: Features) -> float:
    """Mean of the planes' Fréchet distances."""
    found = []
    for plane in PLANES:
        a, b = first[plane], second[plane]
        if len(a) > 1 and len(b) > 1:
            found.append(frechet_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T)))
    return float(np.mean(found))


def read(paths: Sequence[Path]) -> list[LabVolume]:
    """Read all scans."""
    return [to_lab_volume(scan.read(), id=scan.id, patient=scan.patient) for scan in find_scans(paths).found]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", nargs="*", type=Path, default=[])
    parser.add_argument("--test", nargs="+", type=Path, required=True)
    parser.add_argument("--extractor", default="ctfeatures")
    parser.add_argument("--images", type=int, default=24, help="per volume and plane")
    args = parser.parse_args()
    extractor = get_extractor(args.extractor)
    test, reference = read(args.test), read(args.reference) if args.reference else []
    volumes = test + reference
    protocol = choose_protocol(
        [v.spacing_mm for v in volumes],
        [v.extent_mm for v in volumes],
        wanted=Protocol(images_per_volume=args.images),
    )
    pixels = f"{protocol.axial_pixel_mm:.2f} mm (axial) and {protocol.pixel_mm:.2f} mm"
    print(f"{extractor.name} {extractor.sha256[:12]}, pixels of {pixels}")
    clean = features_of(test, protocol, extractor)
    print("test images:", {plane: len(rows) for plane, rows in clean.items()})
    other = features_of(reference, protocol, extractor) if reference else None
    if other:
        print(f"test against reference, no fault: {distance(clean, other):.2f}")
    for name, (unit, severities, make) in FAULTS.items():
        same, apart = [], []
        for severity in severities:
            faulty = features_of([make(volume, severity) for volume in test], protocol, extractor)
            same.append(distance(faulty, clean))
            if other:
                apart.append(distance(faulty, other))
        print(f"{name:9} {unit:3}", *(f"{s:8g}" for s in severities))
        print("  same scans ", *(f"{d:8.2f}" for d in same), "" if _grows([0, *same]) else "  NOT MONOTONE")
        if other:
            print("  other scans", *(f"{d:8.2f}" for d in apart), "" if _grows(apart) else "  NOT MONOTONE")


def _grows(numbers: Sequence[float]) -> bool:
    return bool(np.all(np.diff(numbers) > 0))


if __name__ == "__main__":
    main()

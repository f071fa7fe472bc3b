"""Train a network of CT features on scans without any labels, for ``ctdiffusion train-features``.

Features for a metric of realism must tell anatomy apart *and* must see faults. The usual self-supervised recipes make
features blind to blur, noise and brightness on purpose; a Fréchet distance of such features would be blind too. Here:

- *Anatomy*: VICReg (Bardes et al. 2022, "VICReg: variance-invariance-covariance regularization for self-supervised
  learning") on two nearby windows of one image. Both have the same faults, so nothing rewards ignoring these. VICReg,
  because it needs neither negative pairs nor large batches.
- *Faults*: a third window of the image has other faults. A linear map of the difference of the features must tell the
  difference of each severity. Only differences, for scanners have a sharpness and a noise of their own, which nobody
  has written down. Linear, so that along each fault the mean of the features moves steadily: the Fréchet distance,
  which compares means and covariances, then grows with the fault.
- *Planes*: a linear map must tell the plane.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from CTDiffusionLogic.corpus.split import held_out_patients
from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, InputError, UsageError
from CTDiffusionLogic.fidelity.extractors.ctfeatures import COMPONENTS, WIDTHS, FeatureNet, to_intensity
from CTDiffusionLogic.fidelity.extractors.feature_file import save_feature_file
from CTDiffusionLogic.fidelity.feature_views import FAULTS, ViewOptions, draw_faults, draw_views
from CTDiffusionLogic.fidelity.planes import Protocol, choose_protocol, cut_planes
from CTDiffusionLogic.fidelity.results import PLANES
from CTDiffusionLogic.fidelity.volumes import to_lab_volume
from CTDiffusionLogic.scan_search import ScanRef, find_scans

OnEvent = Callable[[str, dict[str, Any]], None]
_EXPANDED = 256
#: Images lower or narrower than this are not used.
_LEAST_PIXELS = 32
#: Weights of the losses. VICReg's own three are 25, 25, 1, here divided by 25.
_COVARIANCE, _FAULTS, _PLANE = 0.04, 4.0, 0.2
_LOG_EVERY = 25
#: Batches that the principal components are taken over.
_STATISTICS_BATCHES = 40
#: Added to the variance of each component (their sum is the number of averages): small ones are chance.
_LEAST_VARIANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class FeatureTrainingOptions:
    """What is trained, on what, for how long.

    Args:
        data: Files and folders with real CT scans.
        out: File to write.
        max_minutes: Time for reading and training together; None: no limit.
        steps: Steps of the optimiser; None: as many as the time allows. Only a number of steps, not a time, gives
            the same network again.
        seed: Of everything random.
        hold_out: Patients whose scans are not used.
        note: What the card says about the data's origin and licence.
        command: How it was called, for the card.
        images_per_plane: Images kept of each scan and plane.
        batch: Images per step; each gives three windows.
        peak_rate: Largest learning rate.
        views: How windows are drawn.

    Raises:
        UsageError: If neither time nor steps are limited.
    """

    data: tuple[Path, ...]
    out: Path
    max_minutes: float | None = 20.0
    steps: int | None = None
    seed: int = 0
    hold_out: tuple[str, ...] = ()
    note: str = ""
    command: str = ""
    images_per_plane: int = 48
    batch: int = 32
    peak_rate: float = 2e-3
    views: ViewOptions = field(default_factory=ViewOptions)

    def __post_init__(self) -> None:
        if self.max_minutes is None and self.steps is None:
            raise UsageError("The training would never end.", remedy="Give minutes or steps.")


@dataclass(frozen=True)
class FeatureTrainingResult:
    """Where the network is, its digest, and how far its training came."""

    path: Path
    sha256: str
    steps: int
    patients: int
    scans: int


#: Images of one scan: HU, (n, H, W), one array per plane; an empty one where the scan is too thick for the plane.
ScanImages = tuple[NDArray[np.int16], ...]


def train_features(
    options: FeatureTrainingOptions,
    *,
    on_event: OnEvent | None = None,
    is_cancelled: Callable[[], bool] | None = None,
) -> FeatureTrainingResult:
    """Find scans, train a network on them and write its file.

    Args:
        options: What was asked for.
        on_event: Called with an event's name and its facts: "progress" (done, of, eta_s, phase), "metric",
            "skipped" (path, reason).
        is_cancelled: Asked between scans and between steps.

    Raises:
        Cancelled: If it was stopped; nothing is written.
        InputError, OutputError, UsageError: As their names say, with the remedy.
    """
    begin = time.monotonic()
    report = on_event or _ignore
    stop = is_cancelled or (lambda: False)
    found = find_scans(options.data)
    for skipped in found.skipped:
        report("skipped", {"path": skipped.path, "reason": skipped.reason})
    held_out = held_out_patients([s.patient for s in found.found], fraction=0.0, named=options.hold_out)
    images: dict[ScanRef, ScanImages] = {}
    for number, scan in enumerate(found.found):
        report("progress", {"done": number, "of": len(found.found), "phase": "reading"})
        if stop():
            raise Cancelled()
        if scan.patient in held_out:
            continue
        try:
            planes = read_images(scan, per_plane=options.images_per_plane)
        except CTDiffusionError as error:
            report("skipped", {"path": scan.path, "reason": error.message})
            continue
        if any(len(plane) for plane in planes):
            images[scan] = planes
        else:
            report("skipped", {"path": scan.path, "reason": f"is smaller than {_LEAST_PIXELS} pixels in all planes"})
    if not images:
        raise InputError("None of the scans can be used.", remedy="Give real CT scans of a few slices or more.")
    net, steps, figures = fit(images, options, begin=begin, report=report, is_cancelled=stop)
    patients = len({scan.patient for scan in images})
    card = {
        "name": "ctfeatures",
        "description": "Features of CT images for Fréchet and kernel distances",
        "architecture": {"widths": list(WIDTHS), "components": COMPONENTS},
        "training": {
            "command": options.command,
            "seed": options.seed,
            "steps": steps,
            "minutes": round((time.monotonic() - begin) / 60, 1),
            "data": options.note,
            "scans": len(images),
            "patients": patients,
            "held_out_patients": sorted(held_out),
            "images": sum(len(plane) for scan in images.values() for plane in scan),
            "last_losses": {name: round(value, 4) for name, value in figures.items()},
        },
        "torch": torch.__version__.partition("+")[0],
    }
    sha256 = save_feature_file(options.out, net.state_dict(), card)
    return FeatureTrainingResult(options.out, sha256, steps, patients, len(images))


def read_images(scan: ScanRef, *, per_plane: int) -> ScanImages:
    """Read one scan and cut its images, as fine as it is.

    Raises:
        InputError: If it cannot be read, is synthetic or gives no images.
    """
    volume = scan.read()
    if volume.metadata.get("synthetic") == "yes":
        raise InputError(f"{scan.path} is synthetic.", remedy="Train features on real scans only.")
    lab = to_lab_volume(volume, id=scan.id, patient=scan.patient)
    protocol = choose_protocol(
        [lab.spacing_mm], [lab.extent_mm], wanted=Protocol(images_per_volume=per_plane, central_part=0.85)
    )
    planes = cut_planes(lab, protocol)
    cut = tuple(np.rint(planes[plane]).astype(np.int16) for plane in PLANES)
    # Coronal and sagittal images of a few thick slices are strips: little but edges.
    return tuple(plane if min(plane.shape[1:]) >= _LEAST_PIXELS else plane[:0] for plane in cut)


def fit(
    images: dict[ScanRef, ScanImages],
    options: FeatureTrainingOptions,
    *,
    begin: float,
    report: OnEvent,
    is_cancelled: Callable[[], bool],
) -> tuple[FeatureNet, int, dict[str, float]]:
    """Train a network until time or steps are over.

    Returns:
        The network with its principal components, the steps taken, and the last losses.

    Raises:
        Cancelled: If it was stopped.
    """
    generator = np.random.default_rng(options.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        learner = _Learner(FeatureNet())
    learner.train()
    optimizer = torch.optim.AdamW(learner.parameters(), lr=options.peak_rate, weight_decay=0.02)
    started, step = time.monotonic(), 0
    averages: dict[str, float] = {}
    draw = _Drawer(images, generator)
    while (part := _part_done(step, options, begin, started)) < 1.0:
        if is_cancelled():
            raise Cancelled()
        for group in optimizer.param_groups:  # a short warm-up, then half a cosine, by steps or by time
            group["lr"] = options.peak_rate * min(1.0, part / 0.05 + 0.01) * 0.5 * (1.0 + math.cos(math.pi * part))
        pictures, planes = draw(options.batch)
        shared, other = (draw_faults(options.batch, generator, options.views) for _ in range(2))
        windows = draw_views(pictures, [shared, shared, other], generator, options.views)
        losses = learner(to_intensity(windows)[:, None], torch.from_numpy(other - shared), torch.from_numpy(planes))
        optimizer.zero_grad()
        sum(losses.values(), torch.zeros(())).backward()
        optimizer.step()
        step += 1
        for name, loss in losses.items():
            averages[name] = averages.get(name, loss.item()) * 0.95 + loss.item() * 0.05
        if step % _LOG_EVERY == 0:
            seconds = time.monotonic() - started
            report("metric", {"step": step, **averages})
            left = seconds / max(part, 1e-6) * (1.0 - part)
            report("progress", {"done": round(100 * part), "of": 100, "eta_s": left, "phase": "training"})
    net = learner.net.eval().requires_grad_(False)
    _store_components(net, draw, generator, options)
    return net, step, averages


def _part_done(step: int, options: FeatureTrainingOptions, begin: float, started: float) -> float:
    """How much of the training is over, from 0 to 1. Time spent on reading counts, but some is always trained."""
    parts = [step / options.steps] if options.steps else []
    if options.max_minutes is not None:
        seconds = max(60 * options.max_minutes - (started - begin), 1.0)
        parts.append((time.monotonic() - started) / seconds)
    return max(parts)


class _Learner(nn.Module):
    """The network with the maps that exist for its training only."""

    def __init__(self, net: FeatureNet) -> None:
        super().__init__()
        self.net = net
        # Middle and last stage differ in size: one scale for both before anything is learnt from them.
        self.norm = nn.BatchNorm1d(net.averages, affine=False)
        self.expand = nn.Sequential(
            nn.Linear(net.averages, _EXPANDED),
            nn.BatchNorm1d(_EXPANDED),
            nn.ReLU(inplace=True),
            nn.Linear(_EXPANDED, _EXPANDED),
        )
        self.faults = nn.Linear(net.averages, len(FAULTS), bias=False)
        self.plane = nn.Linear(net.averages, len(PLANES))

    def forward(self, windows: Tensor, change: Tensor, planes: Tensor) -> dict[str, Tensor]:
        """Losses of three views (3 n, 1, H, W), the third with other faults by ``change`` (n, 4)."""
        features = self.norm(self.net(windows.contiguous(memory_format=torch.channels_last)))
        first, second, third = features.chunk(3)
        told = self.faults(torch.cat([third - first, second - first]))
        return {
            **vicreg_losses(*self.expand(torch.cat([first, second])).chunk(2)),
            "faults": _FAULTS * functional.smooth_l1_loss(told, torch.cat([change, 0 * change]), beta=0.1),
            "plane": _PLANE * functional.cross_entropy(self.plane(first), planes),
        }


def vicreg_losses(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """The three terms of VICReg for two views (n, D) of n images; see the paper's section 4."""
    count, width = first.shape
    variance, covariance = first.new_zeros(()), first.new_zeros(())
    for view in (first, second):
        variance = variance + functional.relu(1.0 - torch.sqrt(view.var(dim=0) + 1e-4)).mean() / 2
        centred = view - view.mean(dim=0)
        matrix = centred.T @ centred / (count - 1)
        covariance = covariance + (matrix.square().sum() - matrix.diagonal().square().sum()) / width
    invariance = functional.mse_loss(first, second)
    return {"invariance": invariance, "variance": variance, "covariance": _COVARIANCE * covariance}


class _Drawer:
    """Draws images: each patient, then each scan, then each plane as often as any other."""

    def __init__(self, images: dict[ScanRef, ScanImages], generator: np.random.Generator) -> None:
        self._generator = generator
        patients: dict[str, list[ScanImages]] = {}
        for scan, planes in images.items():
            patients.setdefault(scan.patient, []).append(planes)
        self._patients = list(patients.values())

    def __call__(self, count: int) -> tuple[list[NDArray[np.int16]], NDArray[np.int64]]:
        """Images and the numbers of their planes."""
        pictures, planes = [], np.empty(count, np.int64)
        for k in range(count):
            scan = self._pick(self._pick(self._patients))
            planes[k] = self._pick([n for n, plane in enumerate(scan) if len(plane)])
            pictures.append(self._pick(scan[planes[k]]))
        return pictures, planes

    def _pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self._generator.integers(len(choices)))]


@torch.no_grad()
def _store_components(
    net: FeatureNet, draw: _Drawer, generator: np.random.Generator, options: FeatureTrainingOptions
) -> None:
    """Find the principal components of the averages, with and without faults, and store them in the network."""
    rows = []
    for _ in range(_STATISTICS_BATCHES):
        faults = draw_faults(options.batch, generator, options.views)
        rows.append(net(to_intensity(draw_views(draw(options.batch)[0], [faults], generator, options.views))[:, None]))
    averages = torch.cat(rows).double()
    mean, std = averages.mean(dim=0), averages.std(dim=0)
    std = std.clamp_min(1e-3 * float(std.mean()))  # some may be always 0
    variances, directions = torch.linalg.eigh(torch.cov(((averages - mean) / std).T))
    kept = slice(-net.dimensions, None)  # they come in rising order
    scale = torch.sqrt(variances[kept].clamp_min(0.0) + _LEAST_VARIANCE)
    net.mean.copy_(mean)
    net.components.copy_((directions[:, kept] / scale / std[:, None]).flip(dims=(1,)))


def _ignore(_name: str, _facts: dict[str, Any]) -> None:
    """Take an event and do nothing."""

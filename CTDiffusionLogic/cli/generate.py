"""Generate synthetic CT volumes with a model.

The output format follows --out: .nrrd, .nii.gz, .nii or .mha; a name without suffix, or one that ends with
a slash, becomes a folder of DICOM files marked as synthetic. With --count 3, --out a.nrrd gives a-1.nrrd,
a-2.nrrd and a-3.nrrd, made with the seeds SEED, SEED + 1 and SEED + 2. The same model, options, machine and
number of threads give the same bytes. Several processes (torchrun, accelerate launch) share the volumes, a GPU each.

A real scan is continued with --extend, filled with --fill, and made of thinner slices with --thin. The result lies on
the scan's own grid; its slices come back unaltered, and the header (and each DICOM slice) names them as real.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from CTDiffusionLogic.atomic import check_space
from CTDiffusionLogic.bundle import ModelHeader, load_model, read_header
from CTDiffusionLogic.cli.arguments import add_cancel_argument, add_device_arguments, number, whole_number
from CTDiffusionLogic.cli.cancel import CancelSwitch
from CTDiffusionLogic.cli.completion import add_completion_arguments, check_completion_arguments, read_completion
from CTDiffusionLogic.cli.console import Console
from CTDiffusionLogic.cli.copy_check import CopyCheck, add_copy_arguments, require_fingerprints
from CTDiffusionLogic.cli.events import Finished, Progress, Slices, Started, Warned
from CTDiffusionLogic.cli.matrix import add_matrix_arguments, find_fine, load_fine
from CTDiffusionLogic.cli.outputs import Output, check_outputs, plan_outputs
from CTDiffusionLogic.errors import ModelFileError, OutputError
from CTDiffusionLogic.models import DEFAULT_MODEL, bundled_models, find_model
from CTDiffusionLogic.narrow_import import collector_rests
from CTDiffusionLogic.processes import Processes, this_process

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from CTDiffusionLogic.geometry import Geometry
    from CTDiffusionLogic.volume import CTVolume

SUMMARY = "generate synthetic CT volumes"

# For the help and the checks that come before torch is imported; the library has the same (a test compares).
SAMPLERS = ("multistep", "sde", "heun", "ddpm")
MAX_SLICES = 1000
MAX_STEPS = 10_000
MAX_GUIDANCE = 10.0
DEFAULT_SLICES = 64
DEFAULT_SPACING_MM = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of a generation."""
    add = parser.add_argument
    names = ", ".join(bundled_models()) or "none here"
    add("--out", required=True, metavar="FILE_OR_DIR", help="where to write; the suffix decides the format")
    add("--model", metavar="MODEL", help=f"a model file or a bundled model ({names}); default: {DEFAULT_MODEL}")
    add(
        "--slices",
        type=whole_number(1, MAX_SLICES),
        metavar="N",
        help=f"1 to {MAX_SLICES} (default: {DEFAULT_SLICES})",
    )
    add(
        "--spacing-mm",
        type=number(0.25, 50, "mm"),
        metavar="MM",
        help=f"distance of slices (default: {DEFAULT_SPACING_MM:g})",
    )
    add("--count", type=whole_number(1, 10_000), default=1, metavar="N", help="how many volumes (default: 1)")
    add("--seed", type=whole_number(0, 2**63 - 10_001), default=0, help="of the first volume (default: 0)")
    add("--like", type=Path, metavar="SCAN", help="take matrix, slices, spacing and position in space from this scan")
    add("--body-mm", type=number(-5000, 5000, "mm"), metavar="MM", help="where along the body the middle lies")
    add("--region", metavar="LABEL", help="a class the model was trained with, see ctdiffusion info")
    add(
        "--sampler",
        choices=SAMPLERS,
        help="multistep, sde and heun need few steps; ddpm is the classic (default: the model's)",
    )
    steps = whole_number(1, MAX_STEPS)
    add("--steps", type=steps, metavar="N", help="of the anatomy stage (default: the model's)")
    add("--detail-steps", type=steps, metavar="N", help="of the detail stage (default: the model's)")
    add_matrix_arguments(parser, max_steps=MAX_STEPS)
    add(
        "--guidance",
        type=number(0, MAX_GUIDANCE),
        metavar="G",
        help="how strongly anatomy is guided: away from what a weaker guide makes or, in models without one, "
        "towards body position and size; 1 is as learnt (default: the model's)",
    )
    add(
        "--independent-slices",
        action="store_true",
        help="make every slice alone, the baseline that coherence is measured against; about 8 times slower",
    )
    add_copy_arguments(parser)
    add("--overwrite", action="store_true", help="replace files that exist; never folders with something in them")
    add("--preview-dir", type=Path, metavar="DIR", help="write slices there as they become final, for programs")
    add_completion_arguments(parser)
    add_device_arguments(parser)
    add_cancel_argument(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Generate ``--count`` volumes, or this process's share of them where a launcher has started several.

    Raises:
        Cancelled: If the user stopped it; volumes that were finished before stay.
        CTDiffusionError: If the model, the options, the device or the output cannot be used.
    """
    began = time.monotonic()
    check_completion_arguments(args)
    header = read_header(find_model(args.model))
    header.require_whole()
    require_fingerprints(args, header)
    fine = find_fine(args, header)
    processes = this_process()
    outputs = dict(processes.share([*enumerate(plan_outputs(args.out, args.count), start=1)]))
    with CancelSwitch(args.cancel_file) as is_cancelled:
        copy_findings = _generate_all(args, console, header, fine, outputs, is_cancelled, processes)
    details = {"seconds": round(time.monotonic() - began, 2), "seeds": [args.seed + n - 1 for n in outputs]}
    details |= {"model_sha256": header.sha256, **copy_findings}
    if fine is not None:
        details["fine_model_sha256"] = fine.sha256
    if processes.are_several:
        details["processes"] = processes.count
    console.emit(Finished(tuple(str(output.path) for output in outputs.values()), details))


def _generate_all(
    args: argparse.Namespace,
    console: Console,
    header: ModelHeader,
    fine: ModelHeader | None,
    outputs: dict[int, Output],
    is_cancelled: CancelSwitch,
    processes: Processes,
) -> dict[str, list[dict[str, Any]]]:
    """Make and write the volumes of these numbers, from 1 on.

    Returns:
        What the check for copies found, if there was one, by its name in the last event.
    """
    from CTDiffusionLogic import __version__
    from CTDiffusionLogic.volume_io import read_volume, write_volume

    like = read_volume(args.like) if args.like else None
    completion, series = read_completion(args)
    shape, geometry = (completion.shape, completion.geometry) if completion else _grid(args, header, fine, like)
    check_outputs([*outputs.values()], shape=shape, overwrite=args.overwrite)
    if args.preview_dir:
        _prepare_preview(args.preview_dir, 2 * math.prod(shape) * len(outputs))
    is_cancelled.check()

    with collector_rests():
        from CTDiffusionLogic import generation
        from CTDiffusionLogic.completion import complete
        from CTDiffusionLogic.device import choose_device, describe_device, set_threads
        from CTDiffusionLogic.fidelity.independent import independent_slices
        from CTDiffusionLogic.generation import GenerationModel, GenerationRequest

    set_threads(args.threads)
    device = choose_device(processes.device_name(args.device))
    details = {
        "model": header.name,
        "model_sha256": header.sha256,
        "device": describe_device(device),
        "shape": shape,
        "ijk_to_lps": geometry.ijk_to_lps,
        "outputs": [output.path for output in outputs.values()],
    }
    if fine is not None:
        details |= {"fine_model": fine.name, "fine_model_sha256": fine.sha256}
    console.emit(Started(args.command, __version__, details))
    file = load_model(header.path)
    model = GenerationModel.from_file(file, device)
    check_copies = CopyCheck(args, file, console)
    make: Callable[..., CTVolume] = partial(generation.generate, fine=load_fine(fine, device))
    if completion:
        make = partial(complete, completion=completion)
    if args.independent_slices:
        make = independent_slices
    request = GenerationRequest(
        slices=args.slices,
        spacing_mm=args.spacing_mm,
        steps=args.steps,
        detail_steps=args.detail_steps,
        fine_steps=args.fine_steps,
        sampler=args.sampler,
        guidance=args.guidance,
        body_mm=args.body_mm,
        label=args.region,
        like=like,
    )
    for place, (volume_number, output) in enumerate(outputs.items(), start=1):
        is_cancelled.check()
        watcher = _Watcher(console, args.preview_dir, volume_number, args.count, place=place, own=len(outputs))
        volume = make(
            model,
            request=dataclasses.replace(request, seed=args.seed + volume_number - 1),
            on_progress=watcher.on_progress,
            on_slices=watcher.on_slices if args.preview_dir else None,
            on_warning=watcher.on_warning,
            is_cancelled=is_cancelled,
        )
        is_cancelled.check()
        volume = check_copies(volume, volume_number, args.count)
        check_outputs([output], shape=volume.shape, overwrite=args.overwrite)  # hours may have passed
        write_volume(volume, output.target, reference=series, same_space=series is not None)
    return {"copy_check": check_copies.findings} if check_copies.findings else {}


class _Watcher:
    """Turns the callbacks of one generation into events.

    Args:
        console: For the events.
        preview_dir: For slices.
        volume, volumes: Number of the volume, from 1 on, and of how many.
        place, own: Its place among those that this process makes, from 1 on, and how many these are.
    """

    def __init__(
        self, console: Console, preview_dir: Path | None, volume: int, volumes: int, *, place: int, own: int
    ) -> None:
        self._console = console
        self._preview_dir = preview_dir
        self._volume, self._volumes = volume, volumes
        self._place, self._own = place, own
        self._began = time.monotonic()

    def on_progress(self, done: int, total: int, eta_s: float, phase: str) -> None:
        """Report progress over all volumes of this process, each taken to last as long as this one."""
        before, after = self._place - 1, self._own - self._place
        eta_s += after * (time.monotonic() - self._began + eta_s)
        name = phase if self._volumes == 1 else f"volume {self._volume} of {self._volumes}, {phase}"
        self._console.emit(Progress(before * total + done, self._own * total, round(eta_s, 1), name))

    def on_warning(self, sentence: str) -> None:
        """Pass on a warning; those of later volumes say the same."""
        if self._volume == 1:
            self._console.emit(Warned(sentence))

    def on_slices(self, first: int, hu: NDArray[np.int16]) -> None:
        """Write slices that are final as one .npy file and tell where it is."""
        import numpy as np

        from CTDiffusionLogic.atomic import atomic_file

        assert self._preview_dir is not None
        path = self._preview_dir / f"slices-{self._volume}-{first:04d}-{first + len(hu):04d}.npy"
        with atomic_file(path) as part:
            np.save(part, hu, allow_pickle=False)
        self._console.emit(Slices(first, len(hu), str(path), self._volume))


def _grid(
    args: argparse.Namespace, header: ModelHeader, fine: ModelHeader | None, like: CTVolume | None
) -> tuple[tuple[int, int, int], Geometry]:
    """Shape and geometry of the result, known before anything is computed."""
    from CTDiffusionLogic.geometry import Geometry

    if like is not None:
        i_mm, j_mm, k_mm = like.spacing
        geometry = Geometry((i_mm, j_mm, args.spacing_mm or k_mm), like.geometry.origin, like.geometry.direction)
        return (args.slices or like.shape[0], *like.shape[1:]), geometry
    try:
        size = fine.fine_sizes()[1] if fine else int(header.card["plan"]["image_size"])
        pixel_mm = float(header.card["plan"]["fov_mm"]) / size
        corner = -(size - 1) / 2 * pixel_mm
        geometry = Geometry((pixel_mm, pixel_mm, args.spacing_mm or DEFAULT_SPACING_MM), (corner, corner, 0.0))
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelFileError(
            f"{header.path}: its card does not say the size of its images.", remedy="Get the file again."
        ) from error
    return (args.slices or DEFAULT_SLICES, size, size), geometry


def _prepare_preview(folder: Path, size: int) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot make the folder {folder}: {error.strerror}.", remedy="Choose another one."
        ) from error
    check_space(folder, size)

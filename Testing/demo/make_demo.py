"""The main job, end to end: generate a synthetic CT, put it beside a real scan in a Slicer scene, save and show it.

    python Testing/demo/make_demo.py --out demo [--real SCAN] [--synthetic VOLUME.nrrd] [--report]

Writes into the folder of --out: ``synthetic.nrrd`` (the volume), ``comparison.mrb`` (the scene; opens in 3D Slicer),
``comparison.png`` and ``comparison_soft_tissue.png`` (Slicer's slice views of both volumes, rendered off screen).
With --report also ``report/`` (how real the volume is, measured), whose verdicts are printed at the end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

_REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_REPOSITORY), str(_REPOSITORY / "CTDiffusion"), str(_REPOSITORY / "Testing")]

from demo_scene import RealVolume, save_comparison  # noqa: E402  (needs the paths above)
from key_figures import key_figures  # noqa: E402

from CTDiffusionLogic.errors import CTDiffusionError, InputError, ResourceError  # noqa: E402
from CTDiffusionLogic.volume_io import read_volume  # noqa: E402

#: Chest scans of the data folder that make a good picture, the best one first.
_GOOD_SCANS = ("nifti/chest_lidc0314.nii.gz", "nifti/chest_cmbcrc01068.nii.gz", "nifti/chest_lungfcp0001.nii.gz")
#: What is generated: the same each time.
_GENERATE = ("--slices", "64", "--spacing-mm", "3", "--seed", "7")


def main(arguments: list[str] | None = None) -> int:
    """Run the demo; return the exit code: 0 done, 1 failed with a line that says why."""
    options = _parse(arguments)
    began = time.monotonic()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        real = find_real_volume(options.real)
        _say(f"Compared with: {'the built-in phantom' if real.is_phantom else real.name}")
        path = options.synthetic or generate(options.out / "synthetic.nrrd")
        synthetic = read_volume(path)
        if synthetic.metadata.get("synthetic") != "yes":
            raise InputError(
                f"{path} does not say that it is synthetic.", remedy="Give a volume that `ctdiffusion generate` made."
            )
        for result in save_comparison(synthetic, real, options.out):
            _say(f"Wrote {result}")
        if options.report:
            folder = options.out / "report"
            _say("Measuring how real it is: ctdiffusion evaluate")
            for line in key_figures(path.resolve(), real, other_scans(real), folder.resolve()):
                _say(f"  {line}")
            _say(f"Wrote {folder / 'report.html'}")
    except CTDiffusionError as error:
        print(f"make_demo: {error}", file=sys.stderr)
        return error.exit_code
    _say(f"Done in {time.monotonic() - began:.0f} s. Open {options.out / 'comparison.mrb'} in 3D Slicer.")
    return 0


def find_real_volume(given: Path | None) -> RealVolume:
    """The scan that was given, else one of the data folder (CTDIFFUSION_DATA, ../shared/ct), else the phantom.

    Raises:
        InputError: If a scan that was given, or the folder named by CTDIFFUSION_DATA, cannot be used.
    """
    if given is not None:
        real = RealVolume(read_volume(given), _scan_name(given))
        if real.volume.metadata.get("synthetic") == "yes" and not real.is_phantom:
            raise InputError(f"{given} is synthetic.", remedy="Give a real scan to compare with.")
        return real
    named, folder = os.environ.get("CTDIFFUSION_DATA"), data_folder()
    if named and not folder.is_dir():
        raise InputError(f"CTDIFFUSION_DATA names {folder}, which is not a folder.", remedy="Correct or unset it.")
    candidates = [folder / scan for scan in _GOOD_SCANS] + sorted(folder.glob("**/chest*.nii.gz"))
    for path in candidates:
        if path.is_file():
            return RealVolume(read_volume(path), _scan_name(path))
    from CTDiffusionLogic.phantom import torso_phantom

    return RealVolume(torso_phantom(), "computed torso")


def other_scans(real: RealVolume) -> list[Path]:
    """Further good scans of the data folder, for the floors of the key figures; none beside a phantom."""
    if real.is_phantom:
        return []
    folder = data_folder()
    return [folder / s for s in _GOOD_SCANS if (folder / s).is_file() and _scan_name(folder / s) != real.name]


def data_folder() -> Path:
    """The folder with real scans, whether it is there or not."""
    named = os.environ.get("CTDIFFUSION_DATA")
    return Path(named) if named else _REPOSITORY.parent / "shared" / "ct"


def generate(path: Path) -> Path:
    """Run ``ctdiffusion generate`` with the bundled model, in a process of its own; return ``path``.

    Raises:
        ResourceError: If the command fails; it has said why.
    """
    command = [
        sys.executable,
        "-m",
        "CTDiffusionLogic",
        "generate",
        *_GENERATE,
        "--overwrite",
        "--out",
        str(path.resolve()),
    ]
    _say(f"Generating: ctdiffusion {' '.join(command[3:])}")
    finished = subprocess.run(command, cwd=_REPOSITORY, check=False)
    if finished.returncode != 0 or not path.is_file():
        raise ResourceError(
            f"The generation failed with exit code {finished.returncode}.", remedy="See its line above."
        )
    return path


def _scan_name(path: Path) -> str:
    return path.name.split(".")[0]


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Generate a synthetic CT and compare it with a real one in Slicer.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; made if it is not there")
    parser.add_argument("--real", type=Path, help="a real CT scan (file or DICOM folder) to compare with")
    parser.add_argument("--synthetic", type=Path, help="an already generated volume, instead of generating one")
    parser.add_argument("--report", action="store_true", help="measure how real the volume is, and print the verdicts")
    return parser.parse_args(arguments)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())

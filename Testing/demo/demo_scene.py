"""The scene part of the demo: both volumes in a real MRML scene, saved as a bundle and as pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison_picture import AMBER, PictureRow, compose
from CTDiffusionLib import CornerAnnotation, Display, Layouts, Provenance, SceneVolumes
from PIL import Image
from rendering import OPENGL_REMEDY, SceneViews

from CTDiffusionLogic.errors import OutputError
from CTDiffusionLogic.volume import CTVolume

#: The pictures: file name, Slicer's display preset, what it is called.
_PICTURES = (
    ("comparison.png", "lung", "lung window"),
    ("comparison_soft_tissue.png", "abdomen", "soft tissue window"),
)
_VIEW_SIZE = (520, 460)
#: Slicer's own three-over-three layout: the scene opens as a comparison also where this extension is not installed.
_LAYOUT = Layouts.THREE_OVER_THREE


@dataclass(frozen=True)
class RealVolume:
    """What the synthetic volume is compared with: a real scan, or a phantom where there is none.

    Args:
        volume: Its voxels and geometry.
        name: How it is called, without any patient data.
    """

    volume: CTVolume
    name: str

    @property
    def is_phantom(self) -> bool:
        """Whether it was computed; then it is called a phantom wherever it shows."""
        return is_phantom(self.volume)

    @property
    def kind(self) -> str:
        """REAL or PHANTOM."""
        return "PHANTOM" if self.is_phantom else "REAL"


def is_phantom(volume: CTVolume) -> bool:
    """Whether a volume says that it is a phantom."""
    return volume.metadata.get("phantom") == "yes"


def save_comparison(synthetic: CTVolume, real: RealVolume, folder: Path) -> Iterator[Path]:
    """Insert both volumes into a scene, save and render it; yield each file as soon as it is written.

    Args:
        synthetic: The synthetic volume; its metadata become the provenance in the scene.
        real: What it is compared with.
        folder: Where comparison.mrb and the pictures go; exists.

    Raises:
        OutputError: If a file cannot be written.
    """
    views = SceneViews(_LAYOUT.tags, size=_VIEW_SIZE)
    if not views.with_opengl:
        print(f"No OpenGL here: pictures come from Slicer's slice logics on the CPU. {OPENGL_REMEDY}", flush=True)
    labels = CornerAnnotation.SyntheticLabels(views.scene, views.renderer)
    nodes = _insert(synthetic, real, volumes_logic=views.app.volumes_logic)
    Layouts.showSideBySide(*nodes, layout=_LAYOUT)
    mm_per_pixel = Layouts.fitViews(_LAYOUT, nodes)
    path = folder / "comparison.mrb"
    if not views.app.io_manager.save_scene(path):
        raise OutputError(f"The scene {path} could not be written.", remedy="Is there room on the disk?")
    yield path
    for file_name, preset, preset_name in _PICTURES:
        Display.applyPreset(nodes, preset, volumesLogic=views.app.volumes_logic)
        picture = _picture(views, nodes[0], synthetic, real, preset_name=preset_name, mm_per_pixel=mm_per_pixel)
        try:
            picture.save(folder / file_name, optimize=True)
        except OSError as error:
            raise OutputError(f"The picture {folder / file_name} could not be written: {error.strerror}.") from error
        yield folder / file_name
    labels.stop()
    views.close()


def _insert(synthetic: CTVolume, real: RealVolume, *, volumes_logic: Any) -> list[Any]:
    """Insert both volumes; return their nodes, the synthetic one first."""
    real_node = SceneVolumes.insertVolume(
        real.volume.hu,
        real.volume.geometry.ijk_to_ras,
        f"{real.kind} {real.name}",
        preset=_PICTURES[0][1],
        volumesLogic=volumes_logic,
    )
    synthetic_node = SceneVolumes.insertSyntheticVolume(
        synthetic.hu,
        synthetic.geometry.ijk_to_ras,
        "SYNTHETIC CT",
        metadata=synthetic.portable_metadata,
        reference=real_node,
        volumesLogic=volumes_logic,
    )
    return [synthetic_node, real_node]


def _picture(
    views: SceneViews, node: Any, synthetic: CTVolume, real: RealVolume, *, preset_name: str, mm_per_pixel: float
) -> Image.Image:
    upper, lower = ([views.picture(tag) for tag in row.tags] for row in _LAYOUT.rows)
    drawn_already = views.with_opengl  # the label is a part of the views then
    rows = [
        PictureRow(
            "PHANTOM" if is_phantom(synthetic) else "SYNTHETIC",
            _made_by(node),
            upper,
            AMBER,
            "" if drawn_already else CornerAnnotation.TEXT,
        ),
        PictureRow(real.kind, real.name, lower, stamp="PHANTOM - computed, not a scan" if real.is_phantom else ""),
    ]
    display = Display.displayNodeOf(node)
    return compose(
        rows,
        title=f"Synthetic CT compared with a {'phantom' if real.is_phantom else 'real CT'}, {preset_name}",
        facts=f"Window {display.GetWindow():g} HU, level {display.GetLevel():g} HU and scale are the same everywhere."
        f"   Voxels: synthetic {_voxels(synthetic)}, {real.kind.lower()} {_voxels(real.volume)}.",
        mm_per_pixel=mm_per_pixel,
        source="Slicer slice views" if views.with_opengl else "Slicer slice logics, without OpenGL",
    )


def _made_by(node: Any) -> str:
    facts = Provenance.provenance(node)
    return ", ".join(f"{key.lower()} {facts[key]}" for key in ("Model", "Seed", "Steps") if key in facts)


def _voxels(volume: CTVolume) -> str:
    slices, rows, columns = volume.shape
    return f"{columns} x {rows} x {slices} of " + " x ".join(f"{mm:.3g}" for mm in volume.spacing) + " mm"

"""Writing a synthetic CT as a DICOM series that says it is synthetic.

Slicer's own DICOM export would mark it ORIGINAL\\PRIMARY. Here ImageType is DERIVED\\SECONDARY, SyntheticData is
YES, ContentQualification is RESEARCH, "SYNTHETIC" stands in the descriptions and in the patient's name, and
nothing of a real patient's identity is written. A volume with real slices among synthetic ones (its metadata name them
as ``real_slices``) is marked as a whole, for no slice of it may pass for a scan's; each slice says which it is.

The same volume gives the same bytes: UIDs are made from a hash of voxels, geometry and metadata, and the files
carry no date unless one is given.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import astuple
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from CTDiffusionLogic import __version__
from CTDiffusionLogic.atomic import atomic_folder
from CTDiffusionLogic.dicom_headers import PRIVATE_CREATOR, PRIVATE_GROUP
from CTDiffusionLogic.dicom_identity import SyntheticIdentity, dicom_line
from CTDiffusionLogic.dicom_series import DicomSeries
from CTDiffusionLogic.slice_ranges import format_slices, parse_slices
from CTDiffusionLogic.volume import CTVolume, flip_slices

#: Window shown first: centre and width in HU (soft tissue of the abdomen).
DEFAULT_WINDOW = (40, 400)


def write_synthetic_dicom(
    volume: CTVolume,
    folder: Path,
    *,
    reference: DicomSeries | None = None,
    same_space: bool = False,
    description: str = "",
    identity: SyntheticIdentity | None = None,
    created: datetime | None = None,
    on_slice: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write ``volume`` as one CT Image Storage file per slice, the whole series or nothing.

    Args:
        volume: HU of any int16 value are kept as they are. A left-handed grid (no DICOM series can be
            one) is written from its last slice to its first: every voxel stays where it is in the patient.
        folder: Made if it does not exist; must be empty if it does.
        reference: The real series the volume was made from, named in SourceImageSequence. Its patient
            and study are not copied.
        same_space: The volume lies in the patient space of ``reference`` voxel by voxel (a scan that was
            extended or filled), so it shares the FrameOfReferenceUID. Not so for a volume that only
            took its grid from there.
        description: Further words for SeriesDescription.
        identity: Name, ID and study of the patient that does not exist.
        created: Date and time to write; by default none, so that the bytes do not depend on when.
        on_slice: Told how many slices are written, of how many. What it raises ends the writing.

    Returns:
        The files, in the order of the slices.

    Raises:
        OutputError: If the folder is not empty or cannot be written; nothing is left behind then.
    """
    if np.linalg.det(volume.geometry.direction) < 0:
        volume = _flipped(volume)
    identity = identity or SyntheticIdentity()
    digest = _content_hash(volume, description, identity)
    common = _series_attributes(volume, reference, same_space, description, identity, digest, created)
    real = real_slices(volume)
    comment = "May be REAL: a slice of a scan" if _is_unsaid(volume) else "REAL: a slice of the given scan"
    names = [f"slice_{k + 1:04d}.dcm" for k in range(volume.shape[0])]
    with atomic_folder(folder) as temporary:
        for k, name in enumerate(names):
            image = _slice_dataset(volume, k, common, digest)
            if real:
                image.ImageComments = comment if k in real else "SYNTHETIC slice"
            if reference is not None:
                image.SourceImageSequence = _source_images(reference, image.ImagePositionPatient, same_space)
            image.save_as(temporary / name, enforce_file_format=True)
            if on_slice is not None:
                on_slice(k + 1, len(names))
    return [folder / name for name in names]


def _flipped(volume: CTVolume) -> CTVolume:
    count, real = volume.shape[0], real_slices(volume)
    flipped = flip_slices(volume)
    if not real:
        return flipped
    facts = {**volume.metadata, "real_slices": format_slices(count - k for k in real)}
    return CTVolume(flipped.hu, flipped.geometry, facts)


def real_slices(volume: CTVolume) -> frozenset[int]:
    """Slices of a partly synthetic volume, from 0, that show a real patient or may do so."""
    text = _real_text(volume)
    if _is_unsaid(volume):
        return frozenset(range(volume.shape[0]))
    try:
        return frozenset(number - 1 for number in parse_slices(text)) if text else frozenset()
    except ValueError:  # somebody has edited it: any slice may be real
        return frozenset(range(volume.shape[0]))


def _real_text(volume: CTVolume) -> str:
    return volume.metadata.get("real_slices", "")


def _is_unsaid(volume: CTVolume) -> bool:
    """Whether a file said that slices are real but not which (a NIfTI header has no room for it)."""
    return not _real_text(volume) and volume.metadata.get("partly_real") == "yes"


def _series_attributes(
    volume: CTVolume,
    reference: DicomSeries | None,
    same_space: bool,
    description: str,
    identity: SyntheticIdentity,
    digest: str,
    created: datetime | None,
) -> Dataset:
    """Attributes that all slices share, module by module of the CT Image IOD (PS3.3 A.3)."""
    facts = volume.portable_metadata
    model = dicom_line(facts.get("model", ""))
    common = Dataset()
    # SOP Common
    common.SpecificCharacterSet = "ISO_IR 192"
    common.SOPClassUID = CTImageStorage
    common.SyntheticData = "YES"
    # Patient
    common.PatientName = identity.patient_name
    common.PatientID = identity.patient_id(digest)
    common.PatientBirthDate = ""
    common.PatientSex = ""
    real = _real_text(volume)
    common.PatientComments = (
        dicom_line(f"Slices {real} show a real person; all others were made by a computer program.", 1024)
        if real
        else "Slices show a real person; its source did not say which. All others were made by a computer program."
        if _is_unsaid(volume)
        else "Not a patient: a synthetic CT volume made by a computer program."
    )
    # General Study, General Series
    common.StudyInstanceUID = _uid(digest, "study")
    common.StudyDate = created.strftime("%Y%m%d") if created else ""
    common.StudyTime = created.strftime("%H%M%S") if created else ""
    common.ReferringPhysicianName = ""
    common.StudyID = ""
    common.AccessionNumber = ""
    common.StudyDescription = identity.study_description
    common.Modality = "CT"
    common.Laterality = ""
    common.SeriesInstanceUID = _uid(digest, "series")
    common.SeriesNumber = 1
    mark = "SYNTHETIC, PARTLY REAL:" if real else "SYNTHETIC"
    common.SeriesDescription = dicom_line(f"{mark} {description or 'CT by CTDiffusion'}")
    common.PatientPosition = "HFS"
    # Frame of Reference
    shared = reference is not None and same_space and reference.frame_of_reference_uid
    common.FrameOfReferenceUID = shared or _uid(digest, "frame of reference")
    common.PositionReferenceIndicator = ""
    # General and Contributing Equipment
    common.Manufacturer = "CTDiffusion"
    common.ManufacturerModelName = model
    common.SoftwareVersions = f"CTDiffusion {__version__}"
    common.ContributingEquipmentSequence = DicomSequence([_equipment(model)])
    # General Image, Acquisition
    common.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    common.DerivationDescription = _derivation(volume)
    common.AcquisitionNumber = ""
    common.ContentDate = common.StudyDate
    common.ContentTime = common.StudyTime
    common.BurnedInAnnotation = "NO"
    common.LossyImageCompression = "00"
    common.ContentQualification = "RESEARCH"
    # Image Plane
    i_mm, j_mm, k_mm = volume.spacing
    common.PixelSpacing = [_ds(j_mm), _ds(i_mm)]  # DICOM: distance of rows first
    common.ImageOrientationPatient = [_ds(v) for v in volume.geometry.direction[:, :2].T.ravel()]
    common.SliceThickness = _ds(k_mm)
    common.SpacingBetweenSlices = _ds(k_mm)
    # Image Pixel, CT Image, VOI LUT
    common.Rows, common.Columns = volume.shape[1:]
    common.SamplesPerPixel = 1
    common.PhotometricInterpretation = "MONOCHROME2"
    common.BitsAllocated = common.BitsStored = 16
    common.HighBit = 15
    common.PixelRepresentation = 1
    common.RescaleIntercept = "0"
    common.RescaleSlope = "1"
    common.RescaleType = "HU"
    common.KVP = ""
    common.WindowCenter, common.WindowWidth = (str(v) for v in DEFAULT_WINDOW)
    # What a reader of ours gets back; others may ignore it.
    block = common.private_block(PRIVATE_GROUP, PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "UT", json.dumps(facts))
    return common


def _slice_dataset(volume: CTVolume, k: int, common: Dataset, digest: str) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(digest, f"slice {k}")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = _uid("CTDiffusion", "implementation")
    meta.ImplementationVersionName = "CTDIFFUSION"
    image = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    image.update(common)
    image.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    image.InstanceNumber = k + 1
    position = volume.geometry.ijk_to_lps @ (0.0, 0.0, float(k), 1.0)
    image.ImagePositionPatient = [_ds(v) for v in position[:3]]
    image.SliceLocation = _ds(float(position[:3] @ volume.geometry.normal))
    image.PixelData = np.ascontiguousarray(volume.hu[k], dtype="<i2").tobytes()
    image["PixelData"].VR = "OW"
    return image


def _source_images(reference: DicomSeries, position: Sequence[Any], same_space: bool) -> DicomSequence:
    """References to the slices the image was made from: the nearest one where that makes sense, else all."""
    slices = reference.slices
    if same_space:
        here = np.array([float(v) for v in position])
        slices = (min(slices, key=lambda s: float(np.linalg.norm(np.subtract(s.position, here)))),)
    items = []
    for uid in dict.fromkeys(s.sop_uid for s in slices):  # frames of one file share theirs
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = uid
        items.append(item)
    return DicomSequence(items)


def _equipment(model: str) -> Dataset:
    purpose = Dataset()
    purpose.CodeValue = "109102"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item = Dataset()
    item.PurposeOfReferenceCodeSequence = DicomSequence([purpose])
    item.Manufacturer = "CTDiffusion"
    item.ManufacturerModelName = model
    item.SoftwareVersions = f"CTDiffusion {__version__}"
    item.ContributionDescription = "Generated the image with a diffusion model"
    return item


def _derivation(volume: CTVolume) -> str:
    facts = "; ".join(f"{key}: {value}" for key, value in volume.portable_metadata.items())
    real = _real_text(volume)
    what = f"Partly synthetic CT: only slices {real} were acquired" if real else "Synthetic CT, not acquired"
    return dicom_line(f"{what} from a patient. {facts}", 1024)


def _content_hash(volume: CTVolume, description: str, identity: SyntheticIdentity) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(volume.hu, dtype="<i2").tobytes())
    # To 1e-6 mm, and without the sign of zero: a volume that was saved and loaded again is the same one.
    digest.update((np.round(volume.geometry.ijk_to_lps, 6) + 0.0).tobytes())
    digest.update(json.dumps([volume.portable_metadata, description, astuple(identity)]).encode())
    return digest.hexdigest()


def _uid(digest: str, role: str) -> str:
    """A UID under 2.25 (PS3.5 B.2) that is always the same for one content and role."""
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'ctdiffusion {digest} {role}').int}"


def _ds(value: float) -> str:
    """``value`` as a DICOM decimal string (16 characters), to 1e-10: 0.7031 stays 0.7031, whatever it came through."""
    return format_number_as_ds(round(float(value), 10) + 0.0)

"""Whose study a synthetic series seems to be: nobody's, and every field says so."""

from __future__ import annotations

from dataclasses import dataclass

#: Begins the patient's name and ID and the description of the study, whatever else they say.
MARK = "SYNTHETIC"


@dataclass(frozen=True)
class SyntheticIdentity:
    """The patient and study of a synthetic series, as the user names them.

    "SYNTHETIC" is put before each text that does not begin with it, and what DICOM does not allow is taken out, so
    no choice of words can make the series look like a real patient's.

    Args:
        patient_name: For example "SYNTHETIC^Torso"; "Torso" gives the same.
        patient_id_prefix: Stands before eight characters that are the volume's own; at most 55 are kept.
        study_description: Of the study.

    Example:
        >>> SyntheticIdentity(patient_name="Batch 7").patient_name
        'SYNTHETIC^Batch 7'
    """

    patient_name: str = f"{MARK}^CTDiffusion"
    patient_id_prefix: str = MARK
    study_description: str = f"{MARK} CT"

    def __post_init__(self) -> None:
        name = dicom_line(self.patient_name.replace("=", " "))  # "=" would begin another spelling of the name
        object.__setattr__(self, "patient_name", _marked(name, "^", 64))
        object.__setattr__(self, "patient_id_prefix", _marked(dicom_line(self.patient_id_prefix), "-", 55))
        object.__setattr__(self, "study_description", _marked(dicom_line(self.study_description), " ", 64))

    def patient_id(self, digest: str) -> str:
        """The ID of the patient of the volume with this digest."""
        return f"{self.patient_id_prefix}-{digest[:8]}"


def dicom_line(text: str, length: int = 64) -> str:
    """``text`` as one line without what DICOM texts may not hold (control characters, the backslash)."""
    return " ".join("".join(c if c.isprintable() and c != "\\" else " " for c in text).split())[:length]


def _marked(text: str, separator: str, length: int) -> str:
    text = text.strip(" ^-")
    whole = text if text.upper().startswith(MARK) else f"{MARK}{separator}{text}"
    return whole.strip(" ^-")[:length].rstrip()

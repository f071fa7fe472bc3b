"""What an export is to write, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from slicer.i18n import tr as _

from .ExportSource import ExportSource

#: Formats by name, with the ending of their files; DICOM makes a folder.
FORMATS = {"DICOM": "", "NRRD": ".nrrd", "NIfTI": ".nii.gz"}
DEFAULT_FORMAT = "DICOM"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """What an export is to write, and where.

    :param folder: gets one file for each volume, or one folder with DICOM files; made if it does not exist.
    :param fileFormat: a key of FORMATS.
    :param patientName: DICOM; "SYNTHETIC" is put before it if it does not begin so, as for the next two. None for
        what the library has.
    :param patientIDPrefix: DICOM; stands before eight characters that are each volume's own.
    :param studyDescription: DICOM.
    """

    folder: Path
    fileFormat: str = DEFAULT_FORMAT
    patientName: str | None = None
    patientIDPrefix: str | None = None
    studyDescription: str | None = None

    def outputs(self, sources: Sequence[ExportSource]) -> list[Path]:
        """Return the path of each volume's file or folder.

        :raises CTDiffusionLogic.errors.OutputError: if one exists, the folder may not be written to, or there is no
            space.
        :raises CTDiffusionLogic.errors.UsageError: if there is no such format.
        """
        from CTDiffusionLogic.cli.outputs import Output, check_outputs
        from CTDiffusionLogic.errors import OutputError, UsageError

        if self.fileFormat not in FORMATS:
            raise UsageError(
                _("There is no format {name}.").format(name=self.fileFormat),
                remedy=_("Use one of: {names}.").format(names=", ".join(FORMATS)),
            )
        paths: list[Path] = []
        for source in sources:
            path, number = self._path(source.fileName), 2
            while path in paths:  # two volumes of one name
                path, number = self._path(f"{source.fileName}-{number}"), number + 1
            if path.exists():
                raise OutputError(
                    _("{path} exists already.").format(path=path),
                    remedy=_("Choose another folder, or give the volume another name. Nothing is ever overwritten."),
                )
            check_outputs([Output(path, self.fileFormat == "DICOM")], shape=source.shape, overwrite=False)
            paths.append(path)
        return paths

    def words(self, volume: Path, source: ExportSource, output: Path) -> list[str]:
        """Return the command that writes the file ``volume`` to ``output``."""
        if self.fileFormat != "DICOM":
            return ["export", str(volume), f"--out={output}"]
        options = {
            "--out": output,
            "--description": source.description,
            "--patient-name": self.patientName,
            "--patient-id-prefix": self.patientIDPrefix,
            "--study-description": self.studyDescription,
        }
        # With "=", so that a value that begins with a dash is not taken for an option.
        return [
            "export-dicom",
            str(volume),
            *(f"{name}={value}" for name, value in options.items() if value is not None),
        ]

    def _path(self, name: str) -> Path:
        return Path(self.folder).absolute() / f"{name}{FORMATS[self.fileFormat]}"

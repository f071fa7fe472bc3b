"""One generation in the scene."""

from __future__ import annotations

from typing import Any

from .GenerateRequest import GenerateRequest, likeWriter
from .Job import JobRequest
from .VolumeRun import GRACE_S, VolumeRun
from .Worker import Worker

KIND = "generate"


class GenerateRun(VolumeRun):
    """Generates volumes into a scene; see VolumeRun.

    :param worker: runs it.
    :param request: what to generate; with a seed.
    :param scene: a vtkMRMLScene; when it is closed, the run ends.
    :param likeVolume: a volume node whose grid (and transform) the result gets.
    :param referenceVolume: a volume node to put the result beside; by default ``likeVolume``.
    :param keepPartial: whether a volume that is not complete stays when the run fails or is cancelled.
    :param volumesLogic: see SlicerHost.volumesLogicOrDefault.
    :raises JobBusyError: if another generation is running.
    :raises CTDiffusionLogic.errors.InputError: if ``likeVolume`` cannot be used.
    """

    def __init__(
        self,
        worker: Worker,
        request: GenerateRequest,
        *,
        scene: Any,
        likeVolume: Any = None,
        referenceVolume: Any = None,
        keepPartial: bool = False,
        volumesLogic: Any = None,
    ) -> None:
        self.request = request
        isLike = likeVolume is not None
        self._likeID = likeVolume.GetID() if isLike else None
        super().__init__(
            worker,
            JobRequest(
                KIND,
                lambda folder: request.words(folder, isLike=isLike),
                likeWriter(likeVolume) if isLike else None,
                GRACE_S,
            ),
            scene=scene,
            count=request.count,
            seed=request.seed or 0,
            reference=referenceVolume if referenceVolume is not None else likeVolume,
            keepPartial=keepPartial,
            volumesLogic=volumesLogic,
        )

    def place(self, node: Any) -> None:
        """Put the volume under the transform of the volume that it is like."""
        like = self.nodeByID(self._likeID)
        if like is not None:
            node.SetAndObserveTransformNodeID(like.GetTransformNodeID())

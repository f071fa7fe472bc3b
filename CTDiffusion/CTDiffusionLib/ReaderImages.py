"""The images of a reader study, made from its volumes one after the other, so that Slicer stays alive meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .ReaderSources import SourceReader


class ReaderImages:
    """Makes what is shown.

    Slices are made before the study begins and kept: then no item is shown later than another. Whole volumes are
    made when they are shown.

    Example::

        images = ReaderImages(plan, SourceReader())
        for done, total in images.prepare():
            ...
        plan = images.plan              # with the grid that was found
        left, right = images.of(plan.items[0])

    :param plan: a reader_study.StudyPlan.
    :param reader: finds and reads the volumes.
    :param findGrid: bring all images to one pixel size and field, found while preparing; else as the plan says.
    """

    def __init__(self, plan: Any, reader: SourceReader, *, findGrid: bool = False) -> None:
        self.plan = plan
        self._reader, self._findGrid = reader, findGrid
        self._slices: dict[tuple[int, float], Any] = {}

    def prepare(self) -> Iterator[tuple[int, int]]:
        """Read the volumes, one a step; yield how many of how many are done."""
        from CTDiffusionLogic.fidelity.reader_images import common_grid, cut_slice, stand

        heights: dict[int, list[float | None]] = {}
        for item in self.plan.items:
            for exhibit in item.exhibits:
                heights.setdefault(exhibit.source, []).append(exhibit.height)
        samples = []
        for done, (number, wanted) in enumerate(heights.items()):
            yield done, len(heights)
            source = self.plan.sources[number]
            slices = [height for height in wanted if height is not None]
            if not slices and not self._findGrid:
                self._reader.find(source)
                continue
            image = stand(self._reader.read(source))
            samples.append(cut_slice(image, 0.5))
            for height in slices:
                self._slices[number, height] = cut_slice(image, height)
        if self._findGrid:
            self.plan = self.plan.with_grid(*common_grid(samples))
        yield len(heights), len(heights)

    def of(self, item: Any) -> list[Any]:
        """Return the images (reader_images.ReaderImage) of an item, the left one first.

        :raises CTDiffusionLogic.errors.InputError: if a volume cannot be read.
        """
        return [self._imageOf(exhibit) for exhibit in item.exhibits]

    def _imageOf(self, exhibit: Any) -> Any:
        from CTDiffusionLogic.fidelity.reader_images import stand, to_common_grid

        if exhibit.height is None:
            image = stand(self._reader.read(self.plan.sources[exhibit.source]))
        else:
            image = self._slices[exhibit.source, exhibit.height]
        if self.plan.pixel_mm is None or self.plan.side_mm is None:
            return image
        return to_common_grid(image, self.plan.pixel_mm, self.plan.side_mm)

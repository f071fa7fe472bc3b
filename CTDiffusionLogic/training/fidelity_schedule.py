"""When a training stops to measure how real its images are."""

from __future__ import annotations

#: Part of the time that "auto" gives to measuring.
SHARE = 0.05
#: "auto" does not think of measuring before so many seconds: a trial run should be a training and nothing else.
FIRST_LOOK_S = 60.0
#: Where an epoch takes longer than this, "auto" does not wait for its end.
LONG_EPOCH_S = 600.0
#: The last measurement, of the model that is kept, may take so many times the share.
LAST = 2.0


class FidelitySchedule:
    """Decides, from the clock alone.

    Args:
        every: Epochs between measurements; "auto": as often as :data:`SHARE` of the time allows; "off": never.
        steps_per_epoch: Of the training.
        expected_s: What a measurement took before, if that is known.
        is_shared: Whether other processes train along; they wait for this one, so nothing extra is done at the end.
    """

    def __init__(
        self, every: int | str, steps_per_epoch: int, *, expected_s: float | None = None, is_shared: bool = False
    ) -> None:
        self.every, self.steps_per_epoch = every, steps_per_epoch
        self.expected_s, self.is_shared = expected_s, is_shared
        #: Seconds spent with measuring in this call.
        self.spent_s = 0.0
        #: Step of the last measurement that was tried.
        self.last_step = -1

    def is_due(self, step: int, elapsed_s: float, *, seconds_per_step: float) -> bool:
        """Whether to measure now.

        Args:
            step: Steps trained.
            elapsed_s: Since this training or its continuation began to train.
            seconds_per_step: About.
        """
        if self.every == "off" or step == self.last_step:
            return False
        is_epoch = step % self.steps_per_epoch == 0
        if isinstance(self.every, int):
            return is_epoch and step % (self.every * self.steps_per_epoch) == 0
        if not is_epoch and self.steps_per_epoch * seconds_per_step < LONG_EPOCH_S:
            return False
        if self.expected_s is None:
            return elapsed_s >= FIRST_LOOK_S and self.spent_s <= SHARE * elapsed_s
        return self.spent_s + self.expected_s <= SHARE * elapsed_s

    def is_too_long(self, projected_s: float, elapsed_s: float) -> bool:
        """Whether a measurement under way should be given up, since it turns out to take too long by now."""
        if self.every != "auto" or self.expected_s is not None:
            return False
        return self.spent_s + projected_s > SHARE * elapsed_s

    def is_last_due(self, step: int, elapsed_s: float) -> bool:
        """Whether to measure once more at the end."""
        if self.every != "auto" or self.is_shared or self.expected_s is None or step == self.last_step:
            return False
        return self.spent_s + self.expected_s <= LAST * SHARE * elapsed_s

    def reserve_s(self, step: int, elapsed_s: float) -> float:
        """Seconds of a time budget to keep for the last measurement."""
        return 1.1 * (self.expected_s or 0.0) if self.is_last_due(step, elapsed_s) else 0.0

    def note(self, step: int, seconds: float, *, expected_s: float | None) -> None:
        """Remember a measurement.

        Args:
            step: Where it was.
            seconds: What it took.
            expected_s: What the next one will take.
        """
        self.spent_s += seconds
        self.last_step = step
        if expected_s is not None:
            self.expected_s = expected_s

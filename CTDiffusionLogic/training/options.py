"""What a training can be asked for, and the presets behind one word."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from CTDiffusionLogic.errors import UsageError

if TYPE_CHECKING:  # the command reads presets before it knows whether torch is there
    from CTDiffusionLogic.corpus.plan import CorpusPlan
    from CTDiffusionLogic.noise import Parametrization

StageName = Literal["anatomy", "detail", "guide"]
#: What learns where a training is told to leave the rest as it is.
LEARNING: dict[str, tuple[StageName, ...]] = {"anatomy": ("anatomy", "guide"), "detail": ("detail",)}
#: That of ``fidelity.extractors``, which cannot be imported here: it needs numpy.
DEFAULT_EXTRACTOR = "ctfeatures"


@dataclass(frozen=True, kw_only=True)
class StagePreset:
    """Network and loss of one stage.

    Args:
        channels, layers, attention: See :class:`~CTDiffusionLogic.denoiser.network.DenoiserConfig`.
        batch: Slabs per optimiser step and process.
        every: This stage learns at every so many steps.
        learning_rate: At the end of the warm-up.
        level_mean, level_std: ln(sigma) of the noise levels trained on ~ N(mean, std).
        level_shift: Added to the mean at first; gone after ``level_steps`` of the preset or earlier.
        sigma_floor: See :class:`~CTDiffusionLogic.noise.SlabLoss`.
        coarse_noise: Largest standard deviation of the noise on the averaged scans that a fine model learns to refine,
            in intensities.
        estimated_from: Least and largest noise sigma from which anatomy is estimated for the detail stage to refine.
        parametrization, skip_sigma: See :func:`~CTDiffusionLogic.noise.precondition`.
        mid_attention, refiner_channels, refiner_blocks: See
            :class:`~CTDiffusionLogic.denoiser.network.DenoiserConfig`.
    """

    channels: tuple[int, ...]
    layers: int
    attention: bool
    batch: int
    learning_rate: float
    level_mean: float
    level_std: float
    sigma_floor: float
    parametrization: Parametrization
    coarse_noise: float = 0.12
    estimated_from: tuple[float, float] = (0.2, 0.8)
    skip_sigma: float = 0.0
    level_shift: float = 0.0
    mid_attention: bool = True
    refiner_channels: int = 0
    refiner_blocks: int = 0
    every: int = 1


@dataclass(frozen=True, kw_only=True)
class GuidePreset:
    """A weaker network for anatomy, which guides it (:mod:`CTDiffusionLogic.guidance`): it learns the same in the same
    way, but is smaller, and learns at fewer steps.

    Args:
        channels, refiner_channels, refiner_blocks, every: See :class:`StagePreset`. It has one layer per level.
    """

    channels: tuple[int, ...]
    refiner_channels: int
    refiner_blocks: int
    every: int = 2

    def of(self, anatomy: StagePreset) -> StagePreset:
        """The stage that learns to guide ``anatomy``."""
        return replace(anatomy, layers=1, **{f.name: getattr(self, f.name) for f in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The stages and the recipe they share.

    Args:
        anatomy, detail: The stages; without anatomy it is a fine model's (:mod:`CTDiffusionLogic.fine`).
        guide: Of anatomy.
        slices: K, slices of a slab.
        patch: Pixels per side of a detail patch.
        image_size: Pixels per side of the images the model makes, where nothing else is asked for.
        anatomy_size: Pixels per side of the anatomy grid; a fine model's coarse images have half of the image size.
        level_steps: Over as many steps the noise levels fall to where they stay; over fewer where the training is
            known to end soon (:meth:`~CTDiffusionLogic.training.schedule.LevelFall.before`).
        warmup_steps: Linear warm-up of the learning rate.
        decay_steps: After as many steps the learning rate falls with the inverse square root of the step.
        ema_decay: Largest decay of the moving average of the weights.
    """

    anatomy: StagePreset | None = None
    detail: StagePreset
    guide: GuidePreset | None = None
    slices: int = 8
    patch: int = 64
    image_size: int = 256
    anatomy_size: int = 64
    level_steps: int = 3000
    warmup_steps: int = 200
    decay_steps: int = 3000
    ema_decay: float = 0.9995

    @property
    def stages(self) -> dict[StageName, StagePreset]:
        """The stages it trains, by name."""
        named: dict[StageName, StagePreset | None] = {
            "anatomy": self.anatomy,
            "detail": self.detail,
            "guide": self.guide.of(self.anatomy) if self.guide and self.anatomy else None,
        }
        return {name: stage for name, stage in named.items() if stage}

    def coarse_size(self, image_size: int) -> int:
        """Pixels per side of the images that the detail stage refines."""
        return self.anatomy_size if self.anatomy else image_size // 2

    def fits(self, plan: CorpusPlan) -> bool:
        """Whether a corpus with this plan was prepared for its stages."""
        return plan.is_fine == (not self.anatomy) and plan.anatomy_size == self.coarse_size(plan.image_size)


#: "standard" is the bundled model's, as it was trained at last; "tiny" proves that a pipeline works and makes poor
#: images; "large" wants a GPU. Two levels of resolution do: what a third gave, after hours of training, could be set
#: to zero without a change of any error (``Testing/benchmarks/CHOICES.md``), and it had more than half of the weights.
#: "fine" makes 512 x 512 of other models' 256 x 256: few features on many pixels, and convolutions at full resolution
#: for grain of one pixel. What a pass of the standard networks costs: ``Testing/benchmarks/RESULTS.md``.
PRESETS: dict[str, Preset] = {
    "standard": Preset(
        anatomy=StagePreset(
            channels=(56, 96),
            layers=2,
            attention=True,
            batch=12,
            learning_rate=2.5e-3,
            level_mean=-0.2,
            level_std=1.5,
            level_shift=1.2,
            sigma_floor=0.1,
            parametrization="x0",
            skip_sigma=0.1,
            mid_attention=False,
            refiner_channels=32,
            refiner_blocks=3,
        ),
        detail=StagePreset(
            channels=(48, 72),
            layers=1,
            attention=False,
            batch=8,
            learning_rate=2e-3,
            level_mean=0.0,
            level_std=1.4,
            sigma_floor=0.0,
            parametrization="edm",
            refiner_channels=40,
            refiner_blocks=3,
            every=2,
        ),
        guide=GuidePreset(channels=(24, 40), refiner_channels=16, refiner_blocks=2),
        decay_steps=1000,
        ema_decay=0.998,
    ),
    "tiny": Preset(
        anatomy=StagePreset(
            channels=(16, 24, 32),
            layers=1,
            attention=True,
            batch=4,
            learning_rate=1e-3,
            level_mean=0.4,
            level_std=1.7,
            sigma_floor=0.1,
            parametrization="x0",
            skip_sigma=0.1,
            refiner_channels=8,
            refiner_blocks=1,
        ),
        detail=StagePreset(
            channels=(16, 24),
            layers=1,
            attention=False,
            batch=4,
            learning_rate=1e-3,
            level_mean=0.0,
            level_std=1.4,
            sigma_floor=0.0,
            parametrization="edm",
        ),
        guide=GuidePreset(channels=(8, 16), refiner_channels=8, refiner_blocks=1),
        patch=32,
        warmup_steps=20,
    ),
    "large": Preset(
        anatomy=StagePreset(
            channels=(128, 192, 256),
            layers=2,
            attention=True,
            batch=32,
            learning_rate=4e-4,
            level_mean=-0.2,
            level_std=1.5,
            level_shift=1.2,
            sigma_floor=0.1,
            parametrization="x0",
            skip_sigma=0.1,
            refiner_channels=64,
            refiner_blocks=3,
        ),
        detail=StagePreset(
            channels=(96, 144, 192),
            layers=2,
            attention=False,
            batch=32,
            learning_rate=4e-4,
            level_mean=0.0,
            level_std=1.4,
            sigma_floor=0.0,
            parametrization="edm",
            refiner_channels=64,
            refiner_blocks=3,
        ),
        guide=GuidePreset(channels=(48, 72), refiner_channels=24, refiner_blocks=2),
        patch=96,
        warmup_steps=500,
        decay_steps=10000,
        ema_decay=0.9998,
    ),
    "fine": Preset(
        detail=StagePreset(
            channels=(32, 48),
            layers=1,
            attention=False,
            batch=4,
            learning_rate=1e-3,
            level_mean=0.0,
            level_std=1.4,
            sigma_floor=0.0,
            parametrization="edm",
            coarse_noise=0.03,
            refiner_channels=24,
            refiner_blocks=1,
        ),
        patch=128,
        image_size=512,
        decay_steps=1000,
        ema_decay=0.998,
    ),
}
#: Those that train models which make volumes; the others train fine models.
WHOLE_PRESETS = tuple(name for name, preset in PRESETS.items() if preset.anatomy)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """A training as it was asked for.

    Args:
        data: Files and folders of real CT scans, searched recursively.
        run: Folder of the run; made if it is not there.
        image_size: Pixels per side of the images the model makes; a multiple of the anatomy size. 0 becomes the
            preset's own.
        preset: A name in :data:`PRESETS`.
        max_minutes: Time budget of this call, preparation included; None for no limit.
        epochs: Stop when so many epochs have been trained in all; an epoch shows as many slabs as there are slices.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        resume: Go on from the newest checkpoint in ``run``.
        index: CSV that names patients and regions of the scans.
        hold_out: Patients to hold out; empty: a tenth of them, chosen by ``seed``.
        use_labels: Make classes of the index's regions.
        init: A model file to start from (fine-tuning), instead of random weights.
        only: "anatomy" (its guide with it) or "detail": that alone learns, at every step, and the rest of the model
            stays as it is; "": all of it learns.
        seed: Of everything random.
        cooldown: Share of the training, by steps for ``epochs`` and by time of this call for ``max_minutes``, over
            whose end the learning rate falls almost to nothing; 0: never.
        checkpoint_minutes: Time between checkpoints.
        loader_threads: Threads that prepare batches, per stage; 0: none beside the one that trains; None: 0 on the
            CPU, else as many as the cores allow, up to 4.
        fidelity_every: Epochs between measurements of how real the images are; "auto": as often as about 5 % of the
            time allows; "off": never.
        fidelity_extractor: Feature extractor of these measurements, as
            :func:`~CTDiffusionLogic.fidelity.extractors.get_extractor` takes it.
        name: The model's name in its card.
        note: What the model's card says about the data's origin and licence.
    """

    data: tuple[Path, ...]
    run: Path
    image_size: int = 0
    preset: str = "standard"
    max_minutes: float | None = None
    epochs: int | None = None
    device: str = "auto"
    resume: bool = False
    index: Path | None = None
    hold_out: tuple[str, ...] = ()
    use_labels: bool = False
    init: Path | None = None
    only: str = ""
    seed: int = 0
    cooldown: float = 0.2
    checkpoint_minutes: float = 5.0
    loader_threads: int | None = None
    fidelity_every: int | str = "auto"
    fidelity_extractor: str = DEFAULT_EXTRACTOR
    name: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.image_size and self.preset in PRESETS:
            object.__setattr__(self, "image_size", PRESETS[self.preset].image_size)  # as frozen dataclasses do it

    def check(self) -> Preset:
        """Return the preset.

        Raises:
            UsageError: If a value makes no sense; the message names it.
        """
        if self.preset not in PRESETS:
            raise UsageError(f"There is no preset {self.preset!r}.", remedy=f"Use one of {', '.join(PRESETS)}.")
        preset = PRESETS[self.preset]
        if self.image_size < preset.anatomy_size or self.image_size % preset.anatomy_size:
            raise UsageError(
                f"The image size must be a multiple of {preset.anatomy_size}, got {self.image_size}.",
                remedy="Use 128, 256 or 512.",
            )
        if not preset.anatomy:
            self._check_fine()
        for value, what in ((self.max_minutes, "--max-minutes"), (self.epochs, "--epochs")):
            if value is not None and value <= 0:
                raise UsageError(f"{what} must be positive, got {value}.")
        if not 0 <= self.cooldown < 1:
            raise UsageError(f"--cooldown must be at least 0 and below 1, got {self.cooldown:g}.")
        if self.fidelity_every not in ("auto", "off") and not (
            isinstance(self.fidelity_every, int) and self.fidelity_every > 0
        ):
            raise UsageError(f"--fidelity-every must be a number of epochs, auto or off, got {self.fidelity_every!r}.")
        if self.only:
            self._check_only(preset)
        if self.resume and self.init:
            raise UsageError("--init and --resume exclude each other.", remedy="Use --init with a new run folder.")
        return preset

    def _check_only(self, preset: Preset) -> None:
        if self.only not in LEARNING:
            raise UsageError(f"--only must be anatomy or detail, got {self.only!r}.")
        if not preset.anatomy:
            raise UsageError(f"--only does not go with --preset {self.preset}: a fine model has one stage.")
        if not self.resume and not self.init:
            raise UsageError(
                f"With --only {self.only} the rest of the model would stay as random as it begins.",
                remedy="Add --init MODEL, or --resume.",
            )

    def _check_fine(self) -> None:
        wrong = {"--use-labels": self.use_labels, "--fidelity-every": self.fidelity_every not in ("auto", "off")}
        for option, given in wrong.items():
            if given:
                raise UsageError(
                    f"{option} does not go with --preset {self.preset}: a fine model makes no volumes by itself.",
                    remedy=f"Leave out {option}.",
                )

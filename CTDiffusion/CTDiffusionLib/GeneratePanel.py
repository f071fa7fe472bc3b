"""The panel that generates volumes: what the user chose to logic, and what the worker tells to the user."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicer.i18n import tr as _

from . import GenerateModels
from .GenerateDevices import DeviceFinder
from .GenerateEstimate import estimate, stepsOf
from .GenerateFine import FineChoice, fineCard, fineChoice
from .GenerateLogic import GenerateLogic, kindOfDevice
from .GenerateRequest import GenerateRequest, newSeed
from .JobEnding import inPanelWords
from .ParameterPanel import deviceItems, fillComboBox
from .VolumePanel import VolumePanel

if TYPE_CHECKING:
    from CTDiffusionLogic.bundle import ModelHeader


class GeneratePanel(VolumePanel):
    """Connects the widgets of the section Generate with the logic and the parameter node.

    Signal: ``volumeMade`` (a volume node that is complete).

    :param ui: the widgets by name (slicer.util.childWidgetVariables).
    :param logic: what generates.
    :param devices: what knows the devices.
    """

    def __init__(self, ui: Any, logic: GenerateLogic, devices: DeviceFinder) -> None:
        super().__init__(ui, "generate")
        self._logic, self._devices = logic, devices
        self._models: list[GenerateModels.ModelChoice] = []
        self._shownModel: str | None = None  # what modelFileEdit was last set to go with
        self._matrices: list[tuple[str, str]] = []  # what matrixComboBox lists
        ui.modelComboBox.connect("currentIndexChanged(int)", self.onModelChosen)
        ui.modelFileEdit.connect("currentPathChanged(QString)", self.onModelFile)
        ui.matrixComboBox.connect("currentIndexChanged(int)", self.onMatrixChosen)
        ui.deviceComboBox.connect("currentIndexChanged(int)", self.onDeviceChosen)
        ui.devicesButton.connect("clicked(bool)", self.onLookForDevices)
        ui.generateButton.connect("clicked(bool)", self.onGenerateOrCancel)
        devices.changed.connect(self.onDevicesChanged)

    def showParameters(self) -> None:
        """List models and devices."""
        self._shownModel = None  # of another scene
        self.fillModels()
        self._fillDevices()
        self.onParametersModified()

    def fillModels(self) -> None:
        """List the models there are now; after a training, for example."""
        self._models = GenerateModels.modelChoices(self._logic.settings)
        chosen = self._parameters.model if self._parameters is not None else ""
        if chosen and chosen not in [choice.key for choice in self._models]:  # of a scene from another machine
            self._models.append(GenerateModels.fileChoice(Path(chosen)))
        fillComboBox(self._ui.modelComboBox, [(choice.label, choice.key) for choice in self._models], chosen)

    def cleanup(self) -> None:
        """Stop listening; what runs is ended by who owns the worker."""
        self.setParameters(None)
        self._devices.changed.disconnect(self.onDevicesChanged)
        self.follow(None)

    def onModelChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.model = self._ui.modelComboBox.itemData(index)

    def onModelFile(self, path: str) -> None:
        """Add a model file to the list, for good, and choose it."""
        found = GenerateModels.modelFileIn(path) if path else None
        if found is not None and self._parameters is not None:
            self._logic.settings.rememberModel(found)
            self._parameters.model = str(found)
            self.fillModels()
            self.onParametersModified()

    def onMatrixChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.matrix = int(self._ui.matrixComboBox.itemData(index))

    def onDeviceChosen(self, index: int) -> None:
        """Keep the choice in the scene."""
        if self._parameters is not None and index >= 0:
            self._parameters.device = self._ui.deviceComboBox.itemData(index)
            self._showDevice()

    def onLookForDevices(self, *_arguments: Any) -> None:
        """Ask for the devices again."""
        self._devices.ask()

    def onDevicesChanged(self) -> None:
        """Devices are being looked for, or were found."""
        self._fillDevices()
        self.onParametersModified()

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what is chosen, what it will take, and whether it can be done; tool tips say what is missing."""
        parameters, ui = self._parameters, self._ui
        if parameters is None:
            return
        isFree = parameters.likeVolume is None
        ui.slicesSpinBox.enabled = ui.spacingSpinBox.enabled = isFree
        ui.seedSpinBox.enabled = not parameters.randomSeed
        self._showModelFile()
        ui.modelInfoLabel.text, problem = self._modelText()
        self._showMatrix(problem)
        ui.estimateLabel.text = "" if problem else self._ownEstimate()
        self._showButton(problem or self._devices.problem)

    def onGenerateOrCancel(self, *_arguments: Any) -> None:
        """Start, or stop what runs."""
        if self.isRunning:
            self._run.cancel(keepPartial=self._parameters.keepPartial)
            self.say(_("Stopping..."))
            self.onParametersModified()
            return
        parameters = self._parameters
        self.start(
            lambda: self._logic.start(
                self.newRequest(), likeVolume=parameters.likeVolume, keepPartial=parameters.keepPartial
            )
        )

    def newRequest(self) -> GenerateRequest:
        """Return what is chosen, with a new seed if that is wanted."""
        if self._parameters.randomSeed:
            self._parameters.seed = newSeed(self._parameters.count)
        return self.request()

    def request(self) -> GenerateRequest:
        """Return what is chosen."""
        parameters = self._parameters
        isLike = parameters.likeVolume is not None
        fine, steps = self._fineModel(), self._steps()
        return GenerateRequest(
            model=parameters.model or self._models[0].key,
            slices=None if isLike else parameters.slices,
            spacingMm=None if isLike else parameters.spacingMm,
            seed=parameters.seed,
            count=parameters.count,
            steps=steps[0],
            detailSteps=steps[1],
            matrix=fine.fine_sizes()[1] if fine is not None else None,
            fineSteps=steps[2],
            device=parameters.device,
        )

    def _steps(self) -> tuple[int | None, int | None, int | None]:
        """Steps of both stages and of the fine model; None where the model's own number is meant."""
        parameters, factor, fine = self._parameters, self._parameters.quality.value, self._fineModel()
        own = stepsOf(self._card()) if factor != 1 else (0, 0)
        anatomy, detail = (max(1, round(factor * number)) if factor != 1 else None for number in own)
        finer = max(1, round(factor * stepsOf(fine.card)[1])) if factor != 1 and fine is not None else None
        return parameters.steps or anatomy, parameters.detailSteps or detail, finer

    def _fineModel(self) -> ModelHeader | None:
        """The fine model that the chosen matrix takes; None for the model's own matrix, or if it cannot be had."""
        if not self._parameters.matrix:
            return None
        choice = fineChoice(self._card())
        return choice.header if choice.matrix == self._parameters.matrix else None

    def _card(self) -> Any:
        key = self._parameters.model
        path = next((choice.path for choice in self._models if choice.key == key), self._models[0].path)
        return GenerateModels.readCard(path)

    @property
    def modelName(self) -> str:
        """What the chosen model is called in the list."""
        return self._ui.modelComboBox.currentText

    @property
    def problem(self) -> str:
        """Why nothing can be made with the chosen model and the devices, for people; empty if it can."""
        return self._modelText()[1] or self._devices.problem

    def _modelText(self) -> tuple[str, str]:
        """What the model's card says, and why the model cannot be used, if so."""
        from CTDiffusionLogic.errors import CTDiffusionError

        if not self._models:
            text = _("There is no model yet. Choose a model file, or train a model.")
            return text, text
        try:
            return GenerateModels.summary(self._card(), self._fineModel()), ""
        except CTDiffusionError as error:
            text = inPanelWords(str(error))
            return text, text
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            text = _("The card of this model is not complete. Choose another model.")
            return text, text

    def _ownEstimate(self) -> str:
        like = self._parameters.likeVolume
        shape = tuple(reversed(like.GetImageData().GetDimensions())) if like and like.GetImageData() else None
        spacingMm = like.GetSpacing()[2] if like is not None else None
        return self.estimateText(self.request(), shape=shape, spacingMm=spacingMm)

    def estimateText(
        self,
        request: GenerateRequest,
        *,
        shape: tuple[int, ...] | None = None,
        spacingMm: float | None = None,
        known: Collection[int] = (),
    ) -> str:
        """Return what a generation will take, and what will compute it; see GenerateEstimate.estimate.

        :param request: what to generate, with the chosen model and device.
        """
        device = self._devices.automatic() if request.device == "auto" else None
        kind = kindOfDevice(device.name if device is not None else request.device)
        card = self._card()
        try:
            text = estimate(
                card,
                request,
                device=kind,
                secondsPerWork=self._logic.settings.secondsPerWork(kind),
                shape=shape,
                spacingMm=spacingMm,
                known=known,
                fine=fineCard(card, request),
            ).text
        except (KeyError, TypeError, ValueError):  # a card without figures: the worker says more
            return ""
        if device is None and self._parameters.device == "auto":  # not known yet: it may become another one
            return _("{estimate}, on a CPU.").format(estimate=text)
        name = device.description if device is not None else self._deviceName()
        if kind == "cpu":
            return _("{estimate}. It will run on the CPU: {device}.").format(estimate=text, device=name)
        return _("{estimate}. It will run on {device}.").format(estimate=text, device=name)

    def _showMatrix(self, problem: str) -> None:
        """List the model's own matrix and the larger one; tool tips say why there is only one.

        :param problem: why the model cannot be used, if so.
        """
        box, own, choice = self._ui.matrixComboBox, _("As the model makes it"), FineChoice(problem=problem)
        if not problem:
            card = self._card()
            choice = fineChoice(card)
            own = _("As the model makes it ({size})").format(size=int(card["plan"]["image_size"]))
        larger = _("{size} x {size} (finer, slower)").format(size=choice.matrix)
        items = [(own, "0"), (larger, str(choice.matrix))]
        isLarger = choice.header is not None and self._parameters.matrix == choice.matrix
        text, key = items[isLarger]
        if items != self._matrices or box.currentText != text:
            self._matrices = items
            fillComboBox(box, items, key)
        box.enabled = not choice.problem
        box.toolTip = choice.problem or _(
            "Rows and columns of the volume's slices. The larger matrix shows finer edges and grain in the same "
            "place: a fine model refines the slices that the model makes."
        )

    def _showModelFile(self) -> None:
        """Let the file's widget show the model that is used, or nothing for a bundled one: it tells of changes only,
        so a file that it went on showing could not be chosen again."""
        model, edit = self._parameters.model, self._ui.modelFileEdit
        if model == self._shownModel:  # what is being typed is left alone
            return
        self._shownModel = model
        path = Path(model) if model else None
        used = GenerateModels.modelFileIn(path) if path is not None and path.is_absolute() else None
        if used is None or GenerateModels.modelFileIn(edit.currentPath) != used:  # a training may be shown as folder
            wasBlocked = edit.blockSignals(True)  # nothing was chosen
            edit.currentPath = model if path is not None and path.is_absolute() else ""
            edit.blockSignals(wasBlocked)

    def _deviceName(self) -> str:
        name = self._parameters.device
        return next((device.description for device in self._devices.devices if device.name == name), name)

    def _fillDevices(self) -> None:
        chosen = self._parameters.device if self._parameters is not None else "auto"
        fillComboBox(self._ui.deviceComboBox, deviceItems(self._devices, chosen, isShort=True), chosen)
        self._ui.devicesButton.enabled = not self._devices.isAsking
        self._showDevice()

    def _showDevice(self) -> None:
        """The whole name of the chosen device, which does not fit into a narrow list."""
        finder, chosen = self._devices, self._parameters.device if self._parameters is not None else "auto"
        used = finder.automatic() if chosen == "auto" else None
        used = next((device for device in finder.devices if device.name == chosen), used)
        unknown = _("Devices are being looked for...") if finder.isAsking else finder.problem
        self._ui.deviceInfoLabel.text = used.description if used is not None else unknown

    def _showButton(self, problem: str) -> None:
        button, run = self._ui.generateButton, self._run
        if self.isRunning:
            button.text = _("Stopping...") if run.job.isStopping else _("Cancel")
            button.enabled = not run.job.isStopping
            button.toolTip = _("Stop the generation. Finished slices are kept or removed as set under Advanced.")
        else:
            button.text = _("Generate")
            button.enabled = not problem
            button.toolTip = problem or _("Make the volume. Slicer can be used meanwhile.")

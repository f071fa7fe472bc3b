"""The panel of reader studies: what the user chose to a study, and a reader's answers to its file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qt
import slicer.util
from slicer.i18n import tr as _

from . import Display, ReaderResults, ReaderSources
from .ParameterPanel import ParameterPanel
from .ReaderImages import ReaderImages
from .ReaderKeys import ReaderKeys
from .ReaderRun import ReaderRun
from .ReaderStage import ReaderStage

#: Path widgets by the parameter that they show; "" is no path, which a Path cannot say.
_PATHS = {
    "readerRealFolder": "readerRealFolderEdit",
    "readerSyntheticFolder": "readerSyntheticFolderEdit",
    "readerFile": "readerFileEdit",
}


class ReaderPanel(ParameterPanel):
    """Connects the widgets of ReaderSection.ui with studies and the parameter node.

    Leaving the module or closing the scene stops a study; its answers stay, and it can be resumed.

    :param ui: the widgets by name.
    """

    def __init__(self, ui: Any) -> None:
        super().__init__(ui)
        self._run: ReaderRun | None = None
        self._steps: Iterator[tuple[int, int]] | None = None
        self._images: ReaderImages | None = None
        self._study: Any = None  # one that exists already, while it is being prepared
        self._isListing = False
        self._wasCollapsed: bool | None = None  # the choices, before a study hid them
        self._keys = ReaderKeys(self.onNumber, self.onTakeBack)
        self._choiceButtons = [ui.readerChoice1Button, ui.readerChoice2Button]
        self._confidenceButtons = [getattr(ui, f"readerConfidence{n}Button") for n in range(1, 6)]
        self._presetButtons = {name: getattr(ui, f"reader{name.title()}Button") for name in Display.PRESETS}
        self._timer = qt.QTimer()
        self._timer.setSingleShot(True)
        self._timer.connect("timeout()", self._prepareNext)
        self._fitTimer = qt.QTimer()
        self._fitTimer.setSingleShot(True)
        self._fitTimer.connect("timeout()", self._fit)
        ui.readerVolumesSelector.connect("checkedNodesChanged()", self.onVolumes)
        for name, widget in _PATHS.items():
            getattr(ui, widget).connect("currentPathChanged(QString)", lambda path, n=name: self.onPath(n, path))
        ui.readerStartButton.connect("clicked(bool)", self.onStartOrStop)
        ui.readerResultsButton.connect("clicked(bool)", self.onResults)
        for index, button in enumerate(self._choiceButtons):
            button.connect("clicked(bool)", lambda _checked=False, i=index: self.onChoice(i))
        for index, button in enumerate(self._confidenceButtons):
            button.connect("clicked(bool)", lambda _checked=False, i=index: self.onConfidence(i + 1))
        for name, button in self._presetButtons.items():
            button.connect("clicked(bool)", lambda _checked=False, n=name: self.onPreset(n))

    # The parameter node

    def setParameters(self, parameters: Any) -> None:
        """Show and follow another parameter node; a study that is going on stops first."""
        self.stop()
        super().setParameters(parameters)

    def showParameters(self) -> None:
        """Tick the volumes again."""
        selector, chosen = self._ui.readerVolumesSelector, self._volumes()
        self._isListing = True
        for node in chosen:
            selector.check(node)
        for node in selector.checkedNodes():
            if node not in chosen:
                selector.uncheck(node)
        self._isListing = False
        self.onParametersModified()

    def cleanup(self) -> None:
        """Stop, and follow nothing."""
        self.setParameters(None)

    def onVolumes(self) -> None:
        """Keep the ticks in the scene."""
        if self._parameters is not None and not self._isListing:
            self._parameters.readerVolumes = list(self._ui.readerVolumesSelector.checkedNodes())

    def onPath(self, name: str, path: str) -> None:
        """Keep a path in the scene."""
        if self._parameters is None:
            return
        if name == "readerFile" and path != self._parameters.readerFile:
            self._ui.readerResultsLabel.text = ""  # they are another study's
        setattr(self._parameters, name, path)

    def onParametersModified(self, *_arguments: Any) -> None:
        """Show what the results file holds, and whether one can start; the button's tool tip says what is missing."""
        parameters, ui = self._parameters, self._ui
        if parameters is None:
            return
        for name, widget in _PATHS.items():
            if getattr(ui, widget).currentPath != getattr(parameters, name):  # else the cursor jumps while one types
                getattr(ui, widget).currentPath = getattr(parameters, name)
        for name, button in self._presetButtons.items():
            button.checked = name == parameters.readerPreset
        if not self._isBusy:
            self._updateIdle()

    # Beginning and end

    @property
    def _isBusy(self) -> bool:
        return self._steps is not None or (self._run is not None and self._run.isRunning)

    def onStartOrStop(self, *_arguments: Any) -> None:
        """Begin or resume a study, or stop it."""
        if self._isBusy:
            self.stop()
            return
        self._ui.readerResultsLabel.text = ""
        try:
            self._begin()
        except Exception as error:
            self._say(_("The study did not start: {error}").format(error=error))

    def _begin(self) -> None:
        from CTDiffusionLogic.fidelity.reader_files import open_study
        from CTDiffusionLogic.fidelity.reader_study import check_reader, plan_study

        parameters, path = self._parameters, self._path()
        check_reader(parameters.readerCode)
        if ReaderResults.hasStudy(path):
            self._study = open_study(path)
            plan = self._study.plan
        else:
            self._study = None
            if problem := ReaderSources.sceneProblem(self._volumes()):
                raise ValueError(problem)
            real, synthetic = ReaderSources.findSources(
                self._volumes(), parameters.readerRealFolder, parameters.readerSyntheticFolder
            )
            plan = plan_study(
                real,
                synthetic,
                items=parameters.readerItems,
                mode=parameters.readerMode,
                shown=parameters.readerShown,
                seed=parameters.readerSeed,
            )
        scene = parameters.parameterNode.GetScene()
        findGrid = self._study is None and parameters.readerSameGrid
        self._images = ReaderImages(plan, ReaderSources.SourceReader(scene), findGrid=findGrid)
        self._steps = self._images.prepare()
        self._ui.readerFileEdit.addCurrentPathToHistory()
        self._showBusy(_("Reading the volumes..."))
        self._timer.start(0)

    def _prepareNext(self) -> None:
        """Read one volume, and go on when Slicer has done what else there is to do."""
        if self._steps is None or self._images is None:
            return
        try:
            done, total = next(self._steps)
            self._showProgress(done, total)
            if done < total:
                self._timer.start(0)
                return
            self._startRun(self._images)
        except Exception as error:
            self.stop()
            self._say(_("The study did not start: {error}").format(error=error))

    def _startRun(self, images: ReaderImages) -> None:
        from CTDiffusionLogic.fidelity.reader_files import create_study

        plan, parameters = images.plan, self._parameters
        study = self._study if self._study is not None else create_study(self._path(), plan)
        self._steps = None
        stage = ReaderStage(
            images=len(plan.items[0].exhibits),
            orientations=1 if plan.shown == "slices" else 2,
            scene=parameters.parameterNode.GetScene(),
        )
        self._run = ReaderRun(study, parameters.readerCode, images, stage, preset=parameters.readerPreset)
        self._run.changed.connect(self._onRunChanged)
        self._run.ended.connect(self._onRunEnded)
        self._ui.readerAnswerFrame.visible = True
        self._keys.setEnabled(True)
        self._run.start()
        self._fitTimer.start(0)

    def stop(self) -> None:
        """Stop what is going on. Answers are on the disk; the user's layout comes back. May be called at any time."""
        wasPreparing, self._steps, self._images = self._steps is not None, None, None
        if self._run is not None and self._run.isRunning:
            self._run.stop()
        elif wasPreparing:
            self._showIdle(_("Stopped before the first question."))

    def onResults(self, *_arguments: Any) -> None:
        """Show the figures of all readers, and put them into a table."""
        from CTDiffusionLogic.fidelity.reader_files import open_study

        with slicer.util.tryWithErrorDisplay(_("The results could not be shown."), waitCursor=True):
            self._showResults(open_study(self._path(), repair=False))

    def _showResults(self, study: Any) -> None:
        table = ReaderResults.resultsTable(study, scene=self._parameters.parameterNode.GetScene())
        self._ui.readerResultsLabel.text = "{text}\n{where}".format(
            text=ReaderResults.resultsText(study), where=_("Table in the scene: {name}.").format(name=table.GetName())
        )

    # The reader

    def onNumber(self, number: int) -> None:
        """A key: the choice, and after it the confidence."""
        if self._run is None or not self._run.isRunning:
            return
        if self._run.choice is not None:
            self.onConfidence(number)
        elif number <= len(self._choiceButtons):
            self.onChoice(number - 1)

    def onChoice(self, index: int) -> None:
        """Choose, or change the choice."""
        if self._run is not None and self._run.isRunning:
            self._run.choose(index)

    def onTakeBack(self) -> None:
        """Look again."""
        if self._run is not None and self._run.isRunning:
            self._run.takeBack()

    def onConfidence(self, confidence: int) -> None:
        """Complete the answer."""
        if self._run is None or not self._run.isRunning:
            return
        try:
            self._run.rate(confidence)
        except Exception as error:
            self._say(_("The answer was not written: {error}").format(error=error))

    def onPreset(self, name: str) -> None:
        """Show all images with a preset."""
        if self._parameters is not None:
            self._parameters.readerPreset = name
        if self._run is not None and self._run.isRunning:
            self._run.setPreset(name)

    def _fit(self) -> None:
        if self._run is not None:
            self._run.fit()

    # What is shown

    def _onRunChanged(self) -> None:
        run, ui = self._run, self._ui
        assert run is not None
        isPair, isChosen = run.study.plan.mode == "pairs", run.choice is not None
        ui.readerQuestionLabel.text = _("Which one is the real one?") if isPair else _("Is this real or synthetic?")
        texts = (_("1: left"), _("2: right")) if isPair else (_("1: real"), _("2: synthetic"))
        for index, (button, text) in enumerate(zip(self._choiceButtons, texts, strict=True)):
            button.checked = run.choice == index
            # A pressed button is hard to see in dark themes.
            button.text = f"\u2713 {text}" if button.checked else text
        ui.readerConfidenceLabel.text = (
            _("How sure are you? 1: a guess, 5: certain. Backspace: look again.")
            if isChosen
            else _("First the answer, then how sure you are.")
        )
        for button in self._confidenceButtons:
            button.enabled = isChosen
        self._showProgress(run.done, run.total)
        self._showBusy(_("Question {n} of {total}.").format(n=run.done + 1, total=run.total))

    def _onRunEnded(self) -> None:
        run = self._run
        assert run is not None
        self._keys.setEnabled(False)
        if run.done < run.total:
            text = _("Stopped: {done} of {total} answers are in the file. Resume goes on.")
            self._showIdle(text.format(done=run.done, total=run.total))
            return
        self._showIdle(_("All {total} questions are answered. Thank you.").format(total=run.total))
        if self._parameters is not None:
            self._showResults(run.study)

    def _showBusy(self, text: str) -> None:
        ui = self._ui
        if self._wasCollapsed is None:  # room for the answers
            self._wasCollapsed = ui.readerChoicesCollapsibleButton.collapsed
            ui.readerChoicesCollapsibleButton.collapsed = True
        for widget in (
            ui.readerChoicesCollapsibleButton,
            ui.readerCodeEdit,
            ui.readerFileEdit,
            ui.readerResultsButton,
        ):
            widget.enabled = False
        ui.readerStartButton.text = _("&Stop")
        ui.readerStartButton.enabled = True
        ui.readerStartButton.toolTip = _("Stop for now: the answers are in the file, and the study can be resumed.")
        ui.readerProgressBar.visible = True
        self._say(text)

    def _showIdle(self, text: str) -> None:
        """Nothing is going on; say what was."""
        ui = self._ui
        if self._wasCollapsed is not None:
            ui.readerChoicesCollapsibleButton.collapsed = self._wasCollapsed
            self._wasCollapsed = None
        ui.readerAnswerFrame.visible = False
        ui.readerProgressBar.visible = False
        for widget in (ui.readerCodeEdit, ui.readerFileEdit):
            widget.enabled = True
        if self._parameters is not None:
            self._updateIdle()
        self._say(text)

    def _showProgress(self, done: int, total: int) -> None:
        bar = self._ui.readerProgressBar
        bar.setRange(0, total)
        bar.value = done

    def _updateIdle(self) -> None:
        """Say what a start will do; keep the choices of a study that exists."""
        ui = self._ui
        text, problem, hasBegun, hasAnswers = self._state()
        ui.readerChoicesCollapsibleButton.enabled = not hasBegun
        ui.readerStartButton.text = _("Re&sume") if hasBegun else _("&Start")
        ui.readerStartButton.enabled = not problem
        ui.readerStartButton.toolTip = problem or _(
            "Show the questions in views of their own. Your layout comes back at the end."
        )
        ui.readerResultsButton.enabled = hasAnswers
        ui.readerResultsButton.toolTip = (
            _("Show the figures of all readers. This tells who was right: not before everybody is done.")
            if hasAnswers
            else _("There are no answers yet.")
        )
        self._say(text or problem)

    def _state(self) -> tuple[str, str, bool, bool]:
        """What the file holds or a start will do; what keeps from it; whether the study exists; whether answers do."""
        from CTDiffusionLogic.fidelity.reader_files import open_study
        from CTDiffusionLogic.fidelity.reader_study import check_reader

        parameters, path = self._parameters, self._path()
        volumes = self._volumes()
        isNamed, study, problem = path.suffix.lower() == ".csv", None, ""
        try:
            if isNamed and ReaderResults.hasStudy(path):
                study = open_study(path, repair=False)
            check_reader(parameters.readerCode)
        except Exception as error:
            problem = str(error)
        if study is not None:
            plan, done = study.plan, len(study.plan.items) - len(study.left(parameters.readerCode))
            text = _(
                "This file has a study: {mode}, {shown}, seed {seed}. {reader}: {done} of {total} answered."
            ).format(
                mode=plan.mode,
                shown=plan.shown,
                seed=plan.seed,
                reader=parameters.readerCode,
                done=done,
                total=len(plan.items),
            )
            if not problem and done == len(plan.items):
                problem = _("This reader is done. Choose another reader or another file.")
            return text, problem, True, bool(study.answers)
        real, synthetic = ReaderSources.countByOrigin(volumes)
        text = _("{real} real and {synthetic} synthetic volumes of the scene.").format(real=real, synthetic=synthetic)
        hasReal = bool(real or parameters.readerRealFolder)
        hasSynthetic = bool(synthetic or parameters.readerSyntheticFolder)
        if not problem and not (hasReal and hasSynthetic):
            problem = _("Choose real and synthetic volumes, of the scene or in folders.")
        if not problem:
            problem = ReaderSources.sceneProblem(volumes)
        if not problem and not isNamed:
            problem = _("Choose a results file, ending with .csv.")
        return f"{text} {problem}".strip(), problem, False, False

    def _volumes(self) -> list[Any]:
        return [node for node in self._parameters.readerVolumes if node]

    def _path(self) -> Path:
        return Path(self._parameters.readerFile)

    def _say(self, text: str) -> None:
        self._ui.readerInfoLabel.text = text

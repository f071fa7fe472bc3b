"""The host's application: settings, processes, messages, exceptions, heartbeat."""

import os
import signal
import subprocess
import sys
import time

import pytest
import slicer
from host.module_host import ModuleHost


@pytest.fixture
def host():
    with ModuleHost() as host:
        yield host


def test_settings_stay_in_the_hosts_folder(tmp_path):
    for expected in (None, "42"):
        with ModuleHost(folder=tmp_path):
            import qt

            assert qt.QSettings().value("CTDiffusion/answer") == expected
            slicer.app.settings().setValue("CTDiffusion/answer", "42")


def test_a_process_hands_its_lines_on_while_the_application_works(host):
    lines, codes = [], []
    code = "import time\nfor i in range(3): print(i, flush=True); time.sleep(0.05)\nraise SystemExit(7)"
    with host.heartbeat() as beat:
        slicer.util.launchConsoleProcess(
            ["PythonSlicer", "-c", code],
            useStartupEnvironment=False,
            blocking=False,
            logCallback=lines.append,
            completedCallback=lambda code: codes.append((code, list(lines))),
        )
        host.process(until=lambda: codes)
    assert codes == [(7, ["0", "1", "2"])]  # completion comes after the last line
    assert beat.beats > 10


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_launcher_is_not_python_itself(host):
    process = subprocess.Popen(
        ["PythonSlicer", "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    child = int(process.stdout.readline())
    assert child != process.pid
    process.kill()
    process.wait()
    os.kill(child, 0)  # still there, as in Slicer
    os.kill(child, signal.SIGKILL)


def test_the_heartbeat_sees_a_blocked_application(host):
    import qt

    with host.heartbeat() as beat:
        host.process(0.1)
    whenIdle = beat.longest
    with host.heartbeat() as beat:
        qt.QTimer.singleShot(10, lambda: time.sleep(0.25))
        host.process(0.4)
    assert beat.longest >= 0.25 > whenIdle


def test_messages_are_recorded_and_questions_answered(host):
    slicer.util.errorDisplay("It failed.", detailedText="why")
    assert (host.messages[0].text, host.messages[0].details, host.messages[0].icon) == (
        "It failed.",
        "why",
        "Critical",
    )
    host.answers.append("No")
    assert slicer.util.confirmYesNoDisplay("Keep it?") is False
    host.answers.append(lambda message: "Retry" if "again" in message.text else "Close")
    assert slicer.util.confirmRetryCloseDisplay("Once again?")
    with pytest.raises(AssertionError, match="would wait forever: 'Keep it"):
        slicer.util.confirmYesNoDisplay("Keep it?")
    import qt

    host.answers.append("/tmp/file.nrrd")
    assert qt.QFileDialog.getOpenFileName(None, "Open", "", "*.nrrd") == "/tmp/file.nrrd"


def test_a_message_box_with_own_buttons_is_answered_by_their_text(host):
    import qt

    box = qt.QMessageBox()
    box.text = "Keep what is done?"
    keep = box.addButton("Keep", qt.QMessageBox.AcceptRole)
    box.addButton("Remove", qt.QMessageBox.DestructiveRole)
    host.answers.append("Keep")
    box.exec_()
    assert box.clickedButton() == keep
    assert host.messages[-1].buttons == ("Keep", "Remove")


def test_exceptions_in_slots_fail_the_test_unless_the_user_was_told():
    def fail(message):
        raise ValueError(message)

    with pytest.raises(ValueError, match="nobody knows"), ModuleHost() as host:
        import qt

        button = qt.QPushButton()
        button.connect("clicked()", lambda: fail("nobody knows"))
        button.click()
        assert [str(error) for error in host.exceptions] == ["nobody knows"]
    with ModuleHost() as host:
        tag = slicer.mrmlScene.AddObserver("ModifiedEvent", lambda *_: fail("the disk is full"))
        slicer.mrmlScene.Modified()
        slicer.mrmlScene.RemoveObserver(tag)
        assert [str(error) for error in host.unseenExceptions()] == ["the disk is full"]
        slicer.util.errorDisplay("Not saved: the disk is full")
        assert host.unseenExceptions() == []


def test_everything_is_put_back(tmp_path):
    def state():
        return dict(os.environ), list(sys.path), set(vars(slicer)), sys.modules.get("qt"), sys.excepthook

    before = state()
    with ModuleHost() as host:
        host.openModule("CTDiffusion")
        folder = host.folder
        assert "qt" in sys.modules
    assert state() == before
    assert "CTDiffusion" not in sys.modules
    assert not folder.exists()

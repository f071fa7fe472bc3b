"""The life of jobs: real processes, ended in every way there is, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from CTDiffusionLib import Job, Worker
from CTDiffusionLib.Job import JobRequest
from CTDiffusionLib.JobEnding import endingOf
from CTDiffusionLib.JobProcess import JobProcess
from process_groups import isAlive

from CTDiffusionLogic.cli.events import Failed, Finished, Metric

#: Starts a process of its own that holds the pipe and would run on, tells its number, and does what is to be done.
FAMILY = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
{then}
"""


def until(condition, seconds=30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def script(code: str):
    """A launch that runs ``code`` in the place of the command, its words in sys.argv."""

    def launch(words, **options):
        return JobProcess([sys.executable, "-u", "-c", code, *words], **options)

    return launch


@pytest.fixture
def worker(tmp_path):
    made = []

    def make(launch=JobProcess):
        made.append(Worker.Worker(timer=Worker.NoTimer(), launch=launch, temporaryFolder=str(tmp_path)))
        return made[-1]

    yield make
    for one in made:
        one.endAll()
    assert list(tmp_path.glob("CTDiffusion-*")) == []


def test_the_command_runs_and_tells_its_events(worker):
    one = worker()
    job = one.start(JobRequest("info", lambda folder: ["info", "nowhere.safetensors"], graceS=0))
    ending = one.waitFor(job)
    assert (ending.kind, ending.code) == ("failed", "bad-model")
    assert "nowhere.safetensors" in ending.message
    assert job.log.startswith("ctdiffusion info nowhere.safetensors --events json")
    assert "[exit code 1]" in job.log


def test_every_line_comes_before_the_end(worker):
    lines = "\n".join(
        f'print(\'{{"event": "metric", "name": "n{n}"}}\')' if n % 2 else f"print('text {n}')" for n in range(400)
    )
    one = worker(script(lines + '\nprint(\'{"event": "finished", "outputs": ["a"]}\')'))
    job = one.start(JobRequest("test", lambda folder: ["generate"]))
    seen = []
    job.eventReceived.connect(seen.append)
    job.ended.connect(seen.append)
    ending = one.waitFor(job)
    assert [e.name for e in seen if isinstance(e, Metric)] == [f"n{n}" for n in range(1, 400, 2)]
    assert isinstance(seen[-2], Finished)
    assert seen[-1] is ending
    assert ending.finished.outputs == ("a",)


def test_an_event_behind_stray_text_and_bad_bytes_is_seen(worker):
    code = "import os; os.write(2, b'\\xff\\xfe loading 30%'); print('{\"event\": \"finished\"}')"
    one = worker(script(code))
    job = one.start(JobRequest("test", lambda folder: ["generate"]))
    assert one.waitFor(job).kind == "finished"
    assert "loading 30%" in job.log


def test_an_observer_that_fails_does_not_stop_the_job(worker, caplog):
    one = worker(script('print(\'{"event": "finished"}\')'))
    job = one.start(JobRequest("test", lambda folder: ["generate"]))
    job.eventReceived.connect(lambda event: 1 / 0)
    assert one.waitFor(job).kind == "finished"
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize("how", ["cancel", "kill", "killed from outside", "leaves a child", "exit of Slicer"])
def test_the_whole_tree_ends(worker, how):
    then = "print('bye')" if how == "leaves a child" else "time.sleep(600)"
    one = worker(script(FAMILY.format(then=then)))
    job = one.start(JobRequest("test", lambda folder: ["generate"], graceS=0.2))

    def child():
        one.poll()
        return [int(line) for line in job.log.splitlines() if line.isdecimal()]

    until(child)
    (childID,) = child()
    processID = job._process.processID
    if how == "cancel":
        job.cancel()
        ending = one.waitFor(job)
    elif how == "kill":
        job.kill("The scene was closed.")
        ending = one.waitFor(job)
        assert ending.message == "The scene was closed."
    elif how == "exit of Slicer":
        began = time.monotonic()
        one.endAll("Slicer was closed.")
        assert time.monotonic() - began < Worker.EXIT_WAIT_S + 1
        ending = job.ending
    else:
        if how == "killed from outside":
            os.kill(processID, signal.SIGKILL)
        ending = one.waitFor(job)
    until(lambda: not isAlive(childID))
    assert not isAlive(processID)
    expected = {"killed from outside": ("failed", "killed"), "leaves a child": ("failed", "no-word")}
    assert (ending.kind, ending.code) == expected.get(how, ("cancelled", "cancelled"))
    assert not job.folder.exists()


def test_the_worker_is_asked_before_it_is_killed(worker):
    waits = (
        "import pathlib, sys, time\nsentinel = pathlib.Path(sys.argv[sys.argv.index('--cancel-file') + 1])\n"
        "print('ready')\nwhile not sentinel.exists(): time.sleep(0.01)\n"
        'print(\'{"event": "failed", "code": "cancelled", "message": "saved", "exit_code": 130}\')\n'
        "print('saved'); sys.exit(130)"
    )
    one = worker(script(waits))
    job = one.start(JobRequest("test", lambda folder: ["generate"], graceS=60))
    until(lambda: one.poll() or "ready" in job.log)
    job.cancel()
    assert job.isStopping
    ending = one.waitFor(job)
    assert (ending.kind, ending.message) == ("cancelled", "Cancelled.")
    assert "saved" in job.log
    assert "[exit code 130]" in job.log


def test_one_job_of_a_kind(worker):
    one = worker(script("import time; time.sleep(600)"))
    job = one.start(JobRequest("generate", lambda folder: ["generate"]))
    with pytest.raises(Worker.JobBusyError, match=r"\(generate\) is running already"):
        one.start(JobRequest("generate", lambda folder: ["generate"]))
    one.start(JobRequest("train", lambda folder: ["train"]))
    assert one.isRunning("train")
    job.kill()
    one.waitFor(job)
    one.start(JobRequest("generate", lambda folder: ["generate"]))


def test_preparation_fails_or_is_cancelled(worker):
    one = worker(script("print('never')"))

    def fail(folder):
        raise OSError(28, "No space left on device")

    job = one.start(JobRequest("test", lambda folder: ["generate"], prepare=fail))
    ending = one.waitFor(job)
    assert ending.code == "no-start"
    assert "No space left" in ending.message
    job = one.start(JobRequest("test", lambda folder: ["generate"], prepare=lambda folder: time.sleep(0.3)))
    job.kill()
    assert one.waitFor(job).kind == "cancelled"
    assert "never" not in job.log


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "crashed (SIGSEGV)"),
        ("raise MemoryError()", "killed", "memory ran out"),
        ("import no_such_package", "no-word", "No module named 'no_such_package'"),
        ("pass", "no-word", "code 0 and said no more than: nothing"),
        ("import sys; sys.exit(7)", "no-word", "code 7"),
    ],
)
def test_deaths_without_a_last_event(worker, code, kind, words):
    one = worker(script(code))
    ending = one.waitFor(one.start(JobRequest("test", lambda folder: ["generate"])))
    assert (ending.kind, ending.code) == ("failed", kind)
    assert words in ending.message
    assert ending.remedy


def test_no_interpreter(worker, monkeypatch, tmp_path):
    monkeypatch.setattr(Job, "pythonExecutable", lambda: str(tmp_path / "missing" / "PythonSlicer"))
    one = worker()
    ending = one.waitFor(one.start(JobRequest("test", lambda folder: ["info"])))
    assert ending.code == "no-start"
    assert "PythonSlicer" in ending.message


def test_an_ending_is_what_the_worker_said_last():
    assert endingOf(Finished(("a",)), -11).kind == "finished"  # crashed after all was written
    assert endingOf(Failed("bad-model", "m", "r"), 1).text == "m r"
    commands = Failed("bad-model", "m", "Get the file again, or train a model with `ctdiffusion train`.")
    assert endingOf(commands, 1).remedy == "Get the file again, or train a model in the section Train."
    commands = Failed("no-resource", "m", "Use --device auto or --device cpu, or see what `ctdiffusion doctor` says.")
    assert endingOf(commands, 1).remedy == (
        "Use the automatic device or the CPU as the device, or see the section Installation."
    )
    commands = Failed(
        "no-resource", "m", "Install it with: python -m pip install monai, or see what `ctdiffusion doctor` says."
    )
    assert endingOf(commands, 1).remedy == "Install it in the section Installation."
    remedy = "Close other programs, or use --device cpu."
    assert endingOf(Failed("no-resource", "m", remedy), 1).remedy.endswith("or use the CPU as the device.")
    assert endingOf(Failed("bad-model", "m"), 1, stopReason="Cancelled.").kind == "cancelled"


def test_launch_console_process_would_leave_the_children(worker):
    """Slicer's own function, as slicer-core has it: the reason for a launch of our own (see JobProcess)."""
    import slicer.util

    process = slicer.util.launchConsoleProcess(
        [sys.executable, "-u", "-c", FAMILY.format(then="time.sleep(600)")], useStartupEnvironment=False
    )
    childID = int(process.stdout.readline())
    try:
        assert os.getpgid(process.pid) == os.getpgid(0)  # Slicer's own group: it cannot be ended as one
        process.kill()
        process.wait()
        assert isAlive(childID)
    finally:
        os.kill(childID, signal.SIGKILL)
        subprocess.Popen.communicate(process)

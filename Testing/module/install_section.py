"""The opened section Installation, packages that are none, and servers that are slow or gone."""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from python_environments import writeWheel

FAKES = {
    "numpy": "2.0",
    "scipy": "1.14",
    "SimpleITK": "2.4",
    "pydicom": "3.0",
    "torch": "2.7",
    "diffusers": "0.37",
    "safetensors": "0.5",
    "accelerate": "1.3",
    "matplotlib": "3.9",
    "pillow": "11.0",
    "monai": "1.5",
    "jinja2": "3.1",
}


class Panel:
    """The opened section, once the doctor has looked at an environment."""

    def __init__(self, host, environment, monkeypatch, *, prefix=""):
        self.host, self.environment = host, environment
        self.launcher = host.folder / "bin" / "PythonSlicer"
        environment.writeLauncher(self.launcher, prefix)
        host.loadModule("CTDiffusion")
        from CTDiffusionLib import InstallPlan

        monkeypatch.setattr(InstallPlan, "CPU_INDEX", os.environ["PIP_INDEX_URL"])
        monkeypatch.setattr(InstallPlan, "accelerator", lambda: "cpu")
        self.widget = host.openModule("CTDiffusion")
        self.panel = self.widget.sections.install
        self.ui, self.logic = self.panel._ui, self.panel._logic
        self.wait()

    @property
    def status(self):
        return self.ui.installStatusLabel.text

    @property
    def result(self):
        return self.ui.installResultLabel.text

    @property
    def log(self):
        return self.ui.installLogText.plainText

    def wait(self):
        """Wait for the end of what runs, and for the doctor."""
        finder = self.widget.sections.devices
        self.host.process(until=lambda: not self.logic.isRunning and not finder.isAsking, timeout=300)

    def install(self, *answers):
        """Click Install (or Retry), answer what is asked, and wait."""
        self.click(self.ui.installButton, *answers)
        self.wait()

    def click(self, button, *answers):
        self.host.answers.extend(answers)
        self.host.click(button)
        assert not self.host.answers, "not everything was asked"

    def processID(self):
        return self.logic._job._process.processID


def closedPort():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def fakeWheels(folder, names=FAKES):
    """Wheels that go by the right names and are not what they say."""
    for name in names:
        module = {"pillow": "PIL"}.get(name, name)
        writeWheel(folder, name, FAKES[name], {f"{module}/__init__.py": ""})
    return folder


@contextmanager
def slowServer(size):
    """A package server that has torch alone, and sends it for ever so slowly."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            isFile = self.path.endswith(".whl")
            page = b'<html><body><a href="/torch-2.7-py3-none-any.whl">torch-2.7-py3-none-any.whl</a></body></html>'
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream" if isFile else "text/html")
            self.send_header("Content-Length", str(size if isFile else len(page)))
            self.end_headers()
            if not isFile:
                self.wfile.write(page)
                return
            try:
                for _ in range(size // 100_000):
                    self.wfile.write(bytes(100_000))
                    time.sleep(0.1)
            except OSError:
                pass

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()

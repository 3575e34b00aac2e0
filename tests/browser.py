"""A headless Chromium for tests, spoken to over its debugging pipe: one page, any size, light or dark.

No driver and no library: the DevTools protocol is JSON with a null byte behind each message, on two file descriptors.
"""

import base64
import contextlib
import itertools
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)
ANSWER_SECONDS = 60.0


def program() -> str | None:
    """Where Chromium is, if the machine has one."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def required() -> str:
    """Where Chromium is. Without one a test that needs it fails in CI, and is skipped with the reason elsewhere."""
    found = program()
    if found is not None:
        return found
    reason = f"no Chromium on this machine ({', '.join(NAMES)}): apt install chromium, as .ci/run does"
    if os.environ.get("CI", "").lower() in {"true", "1"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)  # pytest's summary lists it (-ra)


class Browser:
    """Chromium with one page. A context; what it leaves behind goes with it."""

    def __init__(self, path: str) -> None:
        self._profile = tempfile.mkdtemp(prefix="hanse browser ")
        to_read, self._out = os.pipe()
        self._in, to_write = os.pipe()

        command = f'exec "$@" 3<&{to_read} 4>&{to_write}'  # the protocol's descriptors are 3 and 4
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", path, *FLAGS, f"--user-data-dir={self._profile}", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(to_read, to_write),
        )
        os.close(to_read)
        os.close(to_write)
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session = ""
        targets = self._ask("Target.getTargets")["targetInfos"]
        page = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session = self._ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError, TimeoutError, EOFError):
            self._session = ""
            self._ask("Browser.close")
        os.close(self._out)
        os.close(self._in)
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._profile, ignore_errors=True)

    def open(self, url: str, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page in a window of this size."""
        self._ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", features=[scheme])
        self._ask("Emulation.setFocusEmulationEnabled", enabled=True)
        self._ask("Page.navigate", url=url)
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression, in JSON's types."""
        answer = self._ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = ANSWER_SECONDS) -> Any:
        """Wait until an expression is true; its value."""
        deadline = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            assert time.monotonic() < deadline, f"{expression} did not come true"
            time.sleep(0.1)
        return found

    def tab(self) -> None:
        """Press the tabulator key."""
        for kind in ("rawKeyDown", "keyUp"):
            self._ask("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)

    def accessible(self) -> list[tuple[str, str]]:
        """(role, name) of everything that assistive technology is told, in order."""
        nodes = self._ask("Accessibility.getFullAXTree")["nodes"]
        return [
            (node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored")
        ]

    def picture(self, path: Path, *, height: int | None = None) -> None:
        """Write a PNG of the page, or of its first so many pixels."""
        size = self._ask("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], height or 10_000), "scale": 1}
        answer = self._ask("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _ask(self, method: str, **parameters: Any) -> Any:
        number = next(self._numbers)
        sent = {"id": number, "method": method, "params": parameters}
        if self._session:
            sent["sessionId"] = self._session
        os.write(self._out, json.dumps(sent).encode() + b"\0")
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            while b"\0" in self._buffer:
                message, self._buffer = self._buffer.split(b"\0", 1)
                answer = json.loads(message)
                if answer.get("id") == number:
                    assert "error" not in answer, answer["error"]
                    return answer["result"]
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError(f"{method} was not answered within {ANSWER_SECONDS:.0f} s")
            piece = os.read(self._in, 65_536)
            if not piece:
                raise EOFError("Chromium ended")
            self._buffer += piece

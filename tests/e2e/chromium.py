"""Drives a headless Chromium through its debugging pipe, without a library and without a port."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Self

from tests.e2e.service import eventually

CHROMIUM: Final = "chromium"
# It must look nothing up outside: a background request that cannot be sent would hold the page up.
FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# Chromium reads commands from descriptor 3 and writes answers to 4, where subprocess cannot put anything by itself.
_EXEC: Final = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execvp(sys.argv[3], sys.argv[3:])"
)
_FIRST_FREE: Final = 10
_ANSWER_S: Final = 30.0
_PATIENCE_S: Final = 20.0
_END: Final = b"\0"


class Page:
    """One page of a browser of its own.

    Attributes:
        complaints: The errors that the page has logged: exceptions, and loads that its security policy has blocked.
    """

    def __init__(self, profile: Path) -> None:
        self.complaints: list[str] = []
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._session: str | None = None
        commands, self._to = os.pipe()
        self._from, answers = os.pipe()
        inherited = [fcntl.fcntl(each, fcntl.F_DUPFD, _FIRST_FREE) for each in (commands, answers)]
        os.close(commands)
        os.close(answers)
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _EXEC, *map(str, inherited), *command],
            pass_fds=inherited,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in inherited:
            os.close(each)

    def __enter__(self) -> Self:
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._to)
        with contextlib.suppress(subprocess.TimeoutExpired):
            # It ends by itself when the pipe is closed.
            self._process.wait(_PATIENCE_S)
        self._process.kill()
        self._process.wait()
        os.close(self._from)

    def __call__(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send a command; return what comes back."""
        number = next(self._numbers)
        message: dict[str, object] = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + _END)
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result

    def open(self, url: str) -> None:
        """Go to a page."""
        self("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:  # noqa: ANN401 - whatever the script returns
        """Return the value of an expression in the page."""
        result = self("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, script: str, *, within_s: float = _PATIENCE_S) -> None:
        """Wait until an expression is true in the page."""
        eventually(
            lambda: bool(self.run(script)),
            within_s=within_s,
            otherwise=lambda: f"not true: {script}\n{self.run('document.body.innerText')}\n{self.complaints}",
        )

    def type_into(self, selector: str, text: str) -> None:
        """Replace the text of a field, and press Enter."""
        self.run(f"(field => {{ field.value = ''; field.focus() }})(document.querySelector({json.dumps(selector)}))")
        self("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key="Enter", windowsVirtualKeyCode=13, text="\r")

    def look(self, *, width: int, height: int, scheme: str, scale: float = 1) -> None:
        """Be a screen of that size, whose owner prefers a colour scheme, `light` or `dark`."""
        self(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Keep a picture of the whole page."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shot = self("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        """Return the next message, and keep what it complains of."""
        deadline = time.monotonic() + _ANSWER_S
        while _END not in self._buffer:
            readable, _, _ = select.select([self._from], [], [], max(deadline - time.monotonic(), 0))
            assert readable, f"no answer from {CHROMIUM}"
            read = os.read(self._from, 1 << 20)
            assert read, f"{CHROMIUM} has ended"
            self._buffer += read
        line, _, self._buffer = self._buffer.partition(_END)
        message: dict[str, Any] = json.loads(line)
        parameters = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(parameters["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.complaints.append(str(parameters["entry"]["text"]))
        return message

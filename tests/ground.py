"""Private ground for tests: a /dev/shm of its own, other users, other namespaces, a /proc that lacks something.

A `Ground` is a private mount namespace. Python code runs there in as many processes as a test needs, one after the
other or beside each other. All have the same /dev/shm, and each has its own user. Nothing outside the namespace
changes. No process outlives the test: its deadline kills it with its descendants, and so does the end of the ground.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

#: A user without a name or a home. Its group has the same number.
USER: Final = 1234
DEADLINE_S: Final = 30

_ROOT: Final = Path(__file__).parent.parent
# The folders that this interpreter and this repository need.
_NEEDED: Final = tuple({_ROOT, Path(sys.prefix), Path(sys.base_prefix)})
# Runs as root in the new namespace, and holds it until its input ends. A folder that other users must not enter is
# covered by one that they may, with nothing in it but what they need.
_HOLDER: Final = """
import ctypes, os, sys
from pathlib import Path

libc = ctypes.CDLL(None, use_errno=True)
size, *needed = sys.argv[1:]

def mount(source, target, kind, flags, options):
    if libc.mount(source.encode(), target.encode(), kind.encode(), flags, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)

held = {path: os.open(path, os.O_PATH) for path in needed}
closed = {next((str(each) for each in [*reversed(Path(path).parents), Path(path)] if not each.stat().st_mode & 1), None)
          for path in needed} - {None}
for folder in closed:
    mount("none", folder, "tmpfs", 0, "mode=755,size=1m")
    for path, fd in held.items():
        if Path(path).is_relative_to(folder):
            os.makedirs(path, exist_ok=True)
            mount(f"/proc/self/fd/{fd}", path, "", 4096 | 16384, "")
mount("none", "/dev/shm", "tmpfs", 2 | 4, f"mode=1777,size={size}")
print("ready", flush=True)
sys.stdin.read()
"""


class Place(NamedTuple):
    """Where a process runs, apart from the ground itself.

    Attributes:
        user: Its uid, and the gid of its group.
        group: The gid of its group, if that is another number.
        groups: Further groups of it.
        monotonic_s: Seconds by which a time namespace of its own is ahead; None to have no such namespace.
        own_pids: Whether it is the first process of a pid namespace.
        own_proc: Whether that namespace has its own /proc, as containers have.
        setup: Commands of a shell that root runs before, in one more mount namespace.
    """

    user: int = 0
    group: int | None = None
    groups: Sequence[int] = ()
    monotonic_s: int | None = None
    own_pids: bool = False
    own_proc: bool = True
    setup: str = ""

    def command(self, holder: int, code: str) -> list[str]:
        """Return the command that runs `code` at this place of the ground that the process `holder` holds."""
        command = ["nsenter", "-t", str(holder), "-m", "env", "-C", str(_ROOT)]
        if self.own_pids:
            command += ["unshare", "-fp", "--kill-child", *(["--mount-proc"] if self.own_proc else [])]
        if self.monotonic_s is not None:
            command += ["unshare", "-fT", "--kill-child", "--monotonic", str(self.monotonic_s)]
        if self.setup:
            command += ["unshare", "-m", "sh", "-ec", f'{self.setup}\nexec "$@"', "sh"]
        if self.user or self.group or self.groups:
            group = self.user if self.group is None else self.group
            groups = ["--groups", ",".join(map(str, self.groups))] if self.groups else ["--clear-groups"]
            command += ["setpriv", "--reuid", str(self.user), "--regid", str(group), *groups]
        return [*command, sys.executable, "-B", "-c", textwrap.dedent(code)]


HERE: Final = Place()
#: Without /proc.
NO_PROC: Final = Place(setup="mount -t tmpfs none /proc")
#: As under systemd's ProcSubset=pid.
ONLY_PIDS: Final = Place(setup="mount -t proc -o subset=pid proc /proc")


class Ground:
    """A private mount namespace with an empty /dev/shm, until the end of a `with`; or use the fixture `ground`."""

    def __init__(self, size: str = "64m") -> None:
        """Make it; its /dev/shm has room for `size`, in the words of tmpfs."""
        holder = ["unshare", "-m", sys.executable, "-B", "-c", _HOLDER, size, *map(str, _NEEDED)]
        self._holder = subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._started: list[subprocess.Popen[str]] = []
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == "ready\n", "these tests run as root"

    def start(self, code: str, place: Place = HERE, deadline_s: float = DEADLINE_S) -> subprocess.Popen[str]:
        """Start a Python process that runs `code`, in the folder of this repository; its streams are pipes of text."""
        # `timeout` kills its process group; in a session of its own that is all that the code starts.
        deadline = ["timeout", "--signal=KILL", f"{deadline_s}"]
        pipe = subprocess.PIPE
        started = subprocess.Popen(
            [*deadline, *self.command(code, place)],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )
        self._started.append(started)
        return started

    def command(self, code: str, place: Place = HERE) -> list[str]:
        """Return the command that runs `code` on the ground, for a caller that starts and ends it itself."""
        return place.command(self._holder.pid, code)

    def run(self, code: str, place: Place = HERE, deadline_s: float = DEADLINE_S) -> subprocess.CompletedProcess[str]:
        """Run `code` to its end; the exit status is that of the Python process, -9 if it was killed at its deadline."""
        process = self.start(code, place, deadline_s)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def output(self, code: str, place: Place = HERE, deadline_s: float = DEADLINE_S) -> str:
        """Run `code`, which must succeed; return what it has written, without white space around it."""
        done = self.run(code, place, deadline_s)
        assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
        return done.stdout.strip()

    @property
    def shm(self) -> Path:
        """The ground's /dev/shm, as this process sees it."""
        return Path("/proc", str(self._holder.pid), "root", "dev", "shm")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Kill what still runs, and drop the namespace with everything in it."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        self._holder.communicate()

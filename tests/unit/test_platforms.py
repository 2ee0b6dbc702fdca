"""Platforms without what a table needs: everything imports there, and opening a table is one error that names them.

The platform is simulated in a process of its own: its modules, constants and functions are taken away before the
library is imported. The standard library and other packages are imported before, as they are built for this platform.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import pytest

from shm_store import Config, ShmStore, UnsupportedPlatformError

_BLOCKED: Final = """
import asyncio, hashlib, importlib.abc, json, logging.handlers, multiprocessing.synchronize, os, select, signal, socket
import subprocess, sys, tomllib, uuid
import msgspec, redis, redis.sentinel

# ssl, redis and their like import more of the platform when they are first used.
missing_modules, missing_names = json.loads(sys.argv[1]), json.loads(sys.argv[2])

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in missing_modules:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
for name in missing_modules:
    sys.modules.pop(name, None)
for dotted in missing_names:
    module, _, name = dotted.rpartition(".")
    vars(sys.modules.get(module) or importlib.import_module(module)).pop(name, None)
sys.platform = sys.argv[3]
"""
_USE: Final = """
import shm_store, shm_store.asgi, shm_store.cli, shm_store.policy, shm_store.redis, shm_store.testing, shm_store.wsgi
from shm_store import Config, Quota, ShmStore, StoreError, UnsupportedPlatformError

assert Config(limit=5).quota == Quota.parse("5/minute")
assert shm_store.policy.loads('[[policy]]\\nname = "all"\\nquota = "5/s"')[0].limit.limit == 5
shm_store.redis.RedisStore.open("redis://localhost").close()
for use in (lambda: ShmStore.open(Config()), ShmStore.open, lambda: ShmStore.attach("shm-store")):
    try:
        use()
    except UnsupportedPlatformError as error:
        print(json.dumps([error.platform, error.reason, error.remedy, str(error), isinstance(error, StoreError)]))
assert shm_store.cli.main(["status"]) == 2
"""

_NOT_ON_DARWIN: Final = (
    "fcntl.F_OFD_SETLK",
    "fcntl.F_OFD_GETLK",
    "os.posix_fallocate",
    "os.pidfd_open",
    "os.O_TMPFILE",
)
_NOT_ON_WINDOWS: Final = (
    *(
        "os.register_at_fork",
        "mmap.MAP_PRIVATE",
        "mmap.MAP_ANONYMOUS",
        "os.fork",
        "os.posix_fallocate",
        "os.pidfd_open",
        "os.getuid",
        "os.geteuid",
        "os.getgroups",
    ),
    *("os.O_NOFOLLOW", "os.O_NONBLOCK", "os.O_CLOEXEC", "os.O_TMPFILE", "os.chown", "os.fchown", "os.fchmod"),
    *("signal.SIGCHLD", "signal.SIGALRM", "signal.SIGKILL", "signal.SIGHUP", "signal.SIGQUIT", "signal.SIGWINCH"),
    *("signal.SIGTSTP", "signal.SIGSTOP", "signal.SIGUSR1", "signal.pthread_sigmask", "signal.setitimer"),
    *("socket.AF_UNIX", "select.poll", "time.clock_gettime", "_multiprocessing.SemLock"),
)


def _run(platform: str, modules: Sequence[str], names: Sequence[str]) -> list[list[object]]:
    command = [sys.executable, "-c", _BLOCKED + _USE, json.dumps(modules), json.dumps(names), platform]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (told,) = done.stderr.splitlines()
    assert told.startswith("shm-store: shared memory cannot be used on ")
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("platform", "modules", "names"),
    [
        ("darwin", (), _NOT_ON_DARWIN),
        ("win32", ("fcntl", "posix_ipc", "pwd", "grp", "termios", "tty", "resource"), _NOT_ON_WINDOWS),
        ("freebsd14", ("posix_ipc",), ("os.pidfd_open",)),
    ],
)
def test_another_system_can_import_everything_and_is_told_what_to_use(
    platform: str, modules: Sequence[str], names: Sequence[str]
) -> None:
    """`import shm_store` works there; opening a table names the platform and the store to use instead, in one line."""
    errors = _run(platform, modules, names)
    assert len(errors) == 3
    for named, reason, remedy, message, is_store_error in errors:
        assert (named, reason, is_store_error) == (platform, "it needs Linux", True)
        assert "shm_store.redis.RedisStore" in str(remedy)
        assert platform in str(message)
        assert "\n" not in str(message)


@pytest.mark.parametrize(
    ("modules", "names", "missing"),
    [
        (("posix_ipc",), (), "posix_ipc"),
        ((), ("_multiprocessing.SemLock",), "semaphores"),
        ((), ("fcntl.F_OFD_SETLK",), "fcntl.F_OFD_SETLK"),
        ((), ("os.posix_fallocate",), "os.posix_fallocate"),
        ((), ("os.O_TMPFILE",), "os.O_TMPFILE"),
    ],
)
def test_a_python_on_linux_that_lacks_a_part_is_told_which(
    modules: Sequence[str], names: Sequence[str], missing: str
) -> None:
    """On Linux the error names the module or the constant, and how to get it."""
    errors = _run("linux", modules, names)
    assert len(errors) == 3
    assert all(missing in str(error[1]) for error in errors)
    assert not any("RedisStore" in str(error[2]) for error in errors)


def _no_answer(_name: str) -> str:
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.mark.parametrize("answer", [_no_answer, lambda _name: None, lambda _name: int("no such name")])
def test_another_c_library_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], object]) -> None:
    """Musl keeps semaphores under other file names: opening a table is one line that names it and the remedy."""
    monkeypatch.setattr(os, "confstr", answer)
    for use in (partial(ShmStore.open, Config(name="t")), partial(ShmStore.attach, "t")):
        with pytest.raises(UnsupportedPlatformError, match=r"not glibc, but perhaps musl; .*slim.*RedisStore$"):
            use()


def test_a_python_without_its_gil_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table relies on the GIL between two stores: opening one is one line that names it and the remedy."""
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: False, raising=False)
    for use in (partial(ShmStore.open, Config(name="t")), partial(ShmStore.attach, "t")):
        with pytest.raises(UnsupportedPlatformError, match=r"without its GIL; .*PYTHON_GIL=1.*RedisStore$"):
            use()
    monkeypatch.setattr(sys, "_is_gil_enabled", lambda: True, raising=False)
    assert ShmStore.attach("no-such-segment") is None

"""Runs modules of this package in a Python process of their own, which imports what this process imports.

The process that asks may be no Python itself: a frozen application, or a server that embeds the interpreter.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib import machinery
from pathlib import Path
from typing import Final

# In the environment of a process that was started here.
STARTED: Final = "SHM_STORE_STARTED"
_NAME: Final = re.compile(r"(?:python|pypy)(?:3(?P<minor>\.\d+)?)?")
# The standard library stays first: a file beside the service may have the name of one of its modules. The package is
# the one of this process, wherever the path would find another. The words after the code are those of a `python -m`.
_BOOTSTRAP: Final = """\
import json, sys
from importlib import import_module, machinery, util
root, path = json.load(sys.stdin)
sys.path += path
spec = machinery.PathFinder.find_spec("shm_store", [root])
sys.modules["shm_store"] = package = util.module_from_spec(spec)
spec.loader.exec_module(package)
module = sys.argv[2]
del sys.argv[:2]
import_module(module).main()
"""


def find() -> str | None:
    """Return the path of an interpreter that can run this package, or None if there is none.

    Files are judged by their names; none is executed. It is None as well in a process that `start` has started: no
    mistake makes processes start each other without end. So it is in a frozen application, as no other program finds
    its modules.
    """
    if STARTED in os.environ or getattr(sys, "frozen", False) or not _is_importable(_root()):
        return None
    return next((path for path in _candidates() if _is_interpreter(path)), None)


def start(interpreter: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start `interpreter` and have it call `main` of `module`, with `arguments` as those of the command line.

    The process imports the standard library first, then what this process imports, in the same order. It has a session
    of its own, apart from the signals of the terminal.

    Raises:
        OSError: The operating system refused.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Not in the environment, where no value is longer than 128 KiB; nor by a pipe, on which this process might wait.
    with open(os.memfd_create("shm-store-imports"), "w+") as imports:
        json.dump([str(_root()), [*_path()]], imports)
        imports.seek(0)
        return subprocess.Popen(  # noqa: S603 - an interpreter, and a module of this package
            # -P, -S: nothing of the working directory or of site-packages comes before the standard library.
            [interpreter, "-P", "-S", "-c", _BOOTSTRAP, "-m", module, *arguments],
            stdin=imports,
            start_new_session=True,
            env=environment | {STARTED: "1"},
        )


def _path() -> Iterator[str]:
    for entry in sys.path:
        if isinstance(entry, str):
            try:
                yield os.path.abspath(entry)
            except FileNotFoundError:
                # The working directory was removed: a relative entry leads nowhere.
                continue


def _root() -> Path:
    """Return the folder or the archive that this package lies in."""
    return Path(__file__).absolute().parents[2]


def _is_importable(root: Path) -> bool:
    return machinery.PathFinder.find_spec("shm_store", [str(root)]) is not None


def _candidates() -> Iterator[str]:
    # Of a program that embeds the interpreter, `sys.executable` is the program, or the first python3 of the PATH,
    # which may have another version: it counts before the others only if it is what runs.
    if sys.executable and _is_running(sys.executable):
        yield sys.executable
    kind = "pypy" if sys.implementation.name == "pypy" else "python"
    for folder in (f"{sys.prefix}/bin", f"{sys.base_prefix}/bin", sysconfig.get_config_var("BINDIR")):
        if folder:
            yield f"{folder}/{kind}{sys.version_info[0]}.{sys.version_info[1]}"
    if sys.executable:
        yield sys.executable


def _is_running(path: str) -> bool:
    try:
        return os.path.samefile(path, "/proc/self/exe")
    except OSError:
        return False


def _is_interpreter(path: str) -> bool:
    """Return whether a file is by its name a Python, and neither it nor what it links to is one of another version."""
    return (
        os.path.isfile(path)
        and os.access(path, os.X_OK)
        and _NAME.fullmatch(os.path.basename(path)) is not None
        and all(_minor(each) in (None, f".{sys.version_info[1]}") for each in (path, os.path.realpath(path)))
    )


def _minor(path: str) -> str | None:
    match = _NAME.match(os.path.basename(path))
    return match and match["minor"]

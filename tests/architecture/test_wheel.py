"""The published wheel: the library, typed, and nothing of the checkout around it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final
from zipfile import ZipFile

ROOT: Final = Path(__file__).parents[2]


def test_wheel_holds_the_library_only(tmp_path: Path) -> None:
    """The modules and scripts of shm_store and its py.typed are in the wheel; else only metadata, with the licence."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {Path(name).name for name in archive.namelist()} - {Path(name).name for name in names}
    library = ROOT / "shm_store"
    sources = {str(path.relative_to(ROOT)) for kind in ("py", "lua") for path in library.rglob(f"*.{kind}")}
    assert names == sources | {"shm_store/py.typed"}
    assert {"METADATA", "entry_points.txt", "LICENSE"} <= metadata

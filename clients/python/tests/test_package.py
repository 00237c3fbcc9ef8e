"""The package builds, and what is built is whole: it installs into a clean environment and works there."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import typing
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import milepost

if TYPE_CHECKING:
    from conftest import Service

PACKAGE = Path(__file__).resolve().parents[1]
USE = """
import milepost
assert "{where}" in milepost.__file__, milepost.__file__
with milepost.JobStore(kind="test") as store, store.track() as job:
    job.log("from a clean environment")
print(store.url, job.id)
"""


def run(*command: object, env: dict[str, str] | None = None) -> str:
    done = subprocess.run([str(part) for part in command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="asks PyPI")
def test_it_builds_and_works_in_a_clean_environment(shared: Service, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path / "dist", PACKAGE)
    (wheel,), (sdist,) = (tmp_path / "dist").glob("*.whl"), (tmp_path / "dist").glob("*.tar.gz")
    names = zipfile.ZipFile(wheel).namelist()
    assert "milepost/py.typed" in names
    assert not [name for name in names if name.startswith("tests")]
    with tarfile.open(sdist) as archive:
        assert any(name.endswith("tests/test_package.py") for name in archive.getnames())
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", wheel)
    env = {"PATH": os.environ["PATH"], "MILEPOST_URL": shared.url}
    told = run(python, "-c", USE.format(where=tmp_path / "clean"), env=env)
    assert told.startswith(shared.url)


def test_types_are_there_at_run_time() -> None:
    assert typing.get_type_hints(milepost.Job)["stage"] == typing.Optional[str]

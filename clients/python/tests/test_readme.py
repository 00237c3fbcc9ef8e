"""The examples of the README run as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Service

README = Path(__file__).resolve().parents[1] / "README.md"
ALL = re.findall(r"^```python\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


def test_there_are_examples() -> None:
    assert len(ALL) >= 6


@pytest.mark.parametrize("example", ALL, ids=[str(nth) for nth, _ in enumerate(ALL, 1)])
def test_an_example_runs_as_printed(shared: Service, example: str) -> None:
    env = {**os.environ, "MILEPOST_URL": shared.url}
    command = [sys.executable, "-W", "error", "-c", example]
    ran = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr

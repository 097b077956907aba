"""The cases whose expected results come from a real Docker, through the conformance tool beside the checkout."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(1200)]

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


def test_every_conformance_case(lamina: Lamina, shared: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    tool = [sys.executable, str(shared / "conformance" / "conftool.py"), "check", "--jobs", "2", "--json", str(report)]
    done = subprocess.run(
        [*tool, "--tool", lamina.command()[0]],
        env=lamina.variables(None),
        capture_output=True,
        text=True,
        timeout=1100,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads(report.read_text())

"""What the everyday commands load: a module here is a module that somebody waits for each time.

Sets, not times. A module that is missing here was added by a change: do without it, or write it down with a reason.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

Lamina = Any  # the fixture's type lives in conftest, which tests do not import
SCRIPT = ["-c", "import sys; from builder.cli import main; sys.exit(main())"]
SLOW = {
    *("asyncio", "click", "ctypes", "dataclasses", "enum", "hashlib", "importlib", "inspect", "json", "lark"),
    *("logging", "pathlib", "re", "rich", "shutil", "signal", "sqlite3", "subprocess", "tarfile", "tempfile"),
    *("threading", "typing", "contextlib", "datetime", "zstandard"),
}
"""Each of these takes 1 to 30 ms. (What _sqlite3 itself loads, functools and collections, cannot be helped.)"""

COMMAND = {"builder", "builder.cli", "builder.cli.app", "builder.cli.context", "builder.cli.flags"} | {
    "builder.cli.registry",
    "builder.cli.commands",
}
DATABASE = {"builder.store", "builder.store.database", "builder.store.leases", "builder.store.schema"}


def loaded(root: Path, *words: str) -> set[str]:
    """What a command loads that a bare interpreter does not."""
    env = dict(os.environ, LAMINA_ROOT=str(root))

    def names(*arguments: str) -> set[str]:
        command = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False, text=True)
        assert done.returncode == 0, done.stderr
        lines = done.stderr.splitlines()
        return {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}

    return names(*SCRIPT, *words) - names("-c", "pass")


def ours(modules: set[str]) -> set[str]:
    return {name for name in modules if name.split(".")[0] in ("builder", "parser", "runtime")}


def test_version(tmp_path: Path) -> None:
    modules = loaded(tmp_path / "store", "--version")
    assert modules - {"builder", "builder.cli"} <= {"__future__"}


@pytest.mark.root
def test_an_unchanged_build(tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    build = ("build", "-t", "made", str(context))
    expected = (
        COMMAND
        | DATABASE
        | {"builder.cli.commands.build", "builder.cli.repeats", "builder.cli.progress", "builder.cli.progress.numbered"}
        | {"builder.cli.clientconfig"}
        | {"builder.pipeline", "builder.pipeline.unchanged", "builder.pipeline.looks", "builder.store.outcomes"}
    )
    # a file that is too young is looked at in the ordinary way
    for _ in range(20):
        modules = loaded(tmp_path / "store", *build)
        if "builder.pipeline.build" not in modules:
            break
    assert ours(modules) == expected
    assert not modules & SLOW


@pytest.mark.root
def test_exec(busybox_store: Lamina) -> None:
    name = busybox_store.text("run", "-d", "--rm", "busybox", "sleep", "1000")
    try:
        modules = loaded(busybox_store.root, "exec", name, "true")
    finally:
        busybox_store("rm", "-f", name)
    expected = (
        COMMAND
        | DATABASE
        | {"builder.cli.commands.attach", "builder.store.names", "builder.errors", "builder.engine"}
        | {"builder.engine.entering", "builder.engine.options", "builder.engine.options.environment"}
        | {"runtime", "runtime.container", "runtime.errors", "runtime.statefile", "runtime.sync", "runtime.values"}
        | {"runtime.cgroups", "runtime.cgroups.common", "runtime.cgroups.v1"}
        # to start the launcher from a copy of the interpreter that nobody can write to
        | {"runtime.linux", "runtime.linux.libc", "runtime.linux.mounts"}
    )
    assert ours(modules) <= expected | {"runtime.cgroups.v2"}
    assert not modules & (SLOW - {"ctypes", "contextlib"})

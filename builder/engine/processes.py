"""The processes of a running container, seen from the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, WrongState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.engine.session import Engine

HEADER = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]


def listing(engine: Engine, name: str, options: Sequence[str] = ()) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `top`: our own, or with *options* those that the host's ps has for the container's processes.

    Raises WrongState when the container does not run, InvalidInput when ps refuses or does not show process ids.
    """
    from builder.engine import containers
    from runtime.container import processes

    container = containers.find(engine, name)
    if not containers.state(engine, container).pid:
        raise WrongState(f"container {container.id} is not running")
    if options:
        return _by_ps(options, {str(pid) for pid in processes(containers.state(engine, container).pid)})
    rows = [row for pid in sorted(processes(containers.state(engine, container).pid)) if (row := _row(pid)) is not None]
    return HEADER, rows


def _by_ps(options: Sequence[str], pids: set[str]) -> tuple[list[str], list[list[str]]]:
    import subprocess

    try:
        done = subprocess.run(["ps", *options], capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise InvalidInput("ps is not installed on this host", hint="leave its options out") from None
    if done.returncode:
        raise InvalidInput(f"ps: {done.stderr.strip().splitlines()[0] if done.stderr.strip() else 'failed'}")
    head, *lines = done.stdout.splitlines() or [""]
    header = head.split()
    if "PID" not in header:
        raise InvalidInput("Couldn't find PID field in ps output", hint="let ps show it: -o pid,comm")
    rows = [line.split(None, len(header) - 1) for line in lines]
    at = header.index("PID")
    return header, [row for row in rows if len(row) > at and row[at] in pids]


def _row(pid: int) -> list[str] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            name, _, rest = file.read().partition("(")[2].rpartition(")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "replace")
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None  # it has ended meanwhile
    fields = rest.split()
    seconds = (int(fields[11]) + int(fields[12])) // os.sysconf("SC_CLK_TCK")
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    terminal = "?" if fields[4] == "0" else "pts/0"
    return [str(uid), str(pid), fields[1], "0", "", terminal, clock, command or f"[{name}]"]

"""The processes of a running container, seen from the host."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, WrongState

if TYPE_CHECKING:
    from builder.engine.session import Engine

HEADER = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]


def listing(engine: Engine, name: str) -> tuple[list[str], list[list[str]]]:
    """Header and rows of `top`. Raises WrongState when the container does not run."""
    return HEADER, [row for pid in sorted(_pids(engine, name)) if (row := _row(pid)) is not None]


def chosen(engine: Engine, name: str, shown: str) -> tuple[list[str], list[list[str]]]:
    """Of what the host's ps has *shown*, the header and the rows of the container's processes.

    Raises WrongState when the container does not run, InvalidInput when no process ids are shown.
    """
    pids = set(map(str, _pids(engine, name)))
    head, *lines = shown.splitlines() or [""]
    header = head.split()
    if "PID" not in header:
        raise InvalidInput("Couldn't find PID field in ps output", hint="let ps show it: -o pid,comm")
    at = header.index("PID")
    rows = [line.split(None, len(header) - 1) for line in lines]
    return header, [row for row in rows if len(row) > at and row[at] in pids]


def _pids(engine: Engine, name: str) -> list[int]:
    from builder.engine import containers
    from runtime.container import processes

    container = containers.find(engine, name)
    pid = containers.state(engine, container).pid
    if not pid:
        raise WrongState(f"container {container.id} is not running")
    return list(processes(pid))


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

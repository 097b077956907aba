"""What running containers use: processor, memory, disk, processes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.store.containers import Container


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a container; `cpu_us` since its start, sizes in bytes. Zeros for one that does not run."""

    cpu_us: int = 0
    memory: int = 0
    limit: int = 0
    read: int = 0
    written: int = 0
    processes: int = 0
    received: int = 0
    sent: int = 0


def sample(engine: Engine, container: Container) -> Sample:
    """What the container has used so far, from its processes."""
    from builder.engine import containers
    from runtime.container import processes

    pid = containers.state(engine, container).pid
    if not pid:
        return Sample()
    limit = containers.definition(container).request.limits.resources.memory
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cpu = memory = read = written = count = 0
    for each in processes(pid):
        facts = _process(each)
        if facts is not None:
            count += 1
            cpu, memory, read, written = (
                before + now for before, now in zip((cpu, memory, read, written), facts, strict=True)
            )
    received, sent = _network(pid) if containers.has_network(engine, container) else (0, 0)
    return Sample(cpu, memory, limit or total, read, written, count, received, sent)


def _network(pid: int) -> tuple[int, int]:
    """Bytes in and out over all interfaces but the loopback, in the network namespace of *pid*."""
    received = sent = 0
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return 0, 0
    for line in lines:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() != "lo":
            received, sent = received + int(numbers[0]), sent + int(numbers[8])
    return received, sent


def _process(pid: int) -> tuple[int, int, int, int] | None:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            moved = dict(line.split(": ") for line in file.read().splitlines())
    except (OSError, ValueError):
        return None  # it has ended meanwhile
    ticks = int(fields[11]) + int(fields[12])
    return (
        ticks * 1_000_000 // os.sysconf("SC_CLK_TCK"),
        int(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
        int(moved.get("read_bytes", 0)),
        int(moved.get("write_bytes", 0)),
    )

"""The history of builds: every build, its steps with keys, reasons, times and costs, and what they printed.

Whole from the first build on, so that `explain`, `report` and `blame` can read it later. Rows hold what is searched
for; everything else is `facts`, a JSON object that the pipeline fills. Output is a file of frames while a step runs,
packed when it ends; a build whose process died stays "running" in its row and is shown as interrupted.
"""

from __future__ import annotations

import json
import os
import struct
from typing import TYPE_CHECKING

from builder.errors import BuildNotFound, DiskFull, LogNotFound
from builder.store import trees
from builder.store.diskfaults import disk_errors
from builder.store.outcomes import INSERT_BUILD, INSERT_STEP, new_build
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from builder.store.database import Database, Row
    from builder.store.leases import Lease, Leases

RUNNING = "running"
INTERRUPTED = "interrupted"
LOG_LIMIT = 32 << 20
"""Bytes of output kept of one step; what comes after is counted and dropped (`yes` in a RUN must not fill the disk)."""

HISTORY = 50
HISTORY_AGE = 48 * 3600 * 1_000_000_000
"""The newest builds are kept, and all of the last two days (in ns), as BuildKit keeps them; longer those that a cached
layer or a kept failed step came from, which are still asked about."""

_FRAME = struct.Struct(">QBI")
_PACKED = b"Z"
_PLAIN = b"P"


@dataclass(frozen=True, slots=True)
class BuildRecord:
    """One build. Times in ns since the epoch; `status` running, done, failed, cancelled, interrupted; `facts` JSON."""

    id: str
    started: int
    status: str = RUNNING
    finished: int | None = None
    image: str | None = None
    error: str | None = None
    facts: Mapping[str, object] = field(default_factory=dict)
    dockerfile: bytes = b""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One step of a build. `status` cached, done, failed, cancelled…; `key` and `step` as in its cache record.

    `facts` is JSON: reason of the miss and the leaf that changed, CPU, peak memory, I/O, lines of the Dockerfile.
    """

    build: str
    number: int
    name: str
    status: str
    key: str | None = None
    step: str | None = None
    layer: str | None = None
    started: int | None = None
    finished: int | None = None
    exit_code: int | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of output: `stream` 1 (stdout) or 2 (stderr), `offset_us` since the step began."""

    offset_us: int
    stream: int
    data: bytes


class LogWriter:
    """The output of one running step; `close` packs it. A step that says nothing leaves nothing on the disk.

    Not for two threads at once.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._left = limit
        self.dropped = 0
        self._file: BinaryIO | None = None
        self._closed = False

    def write(self, stream: int, data: bytes, offset_us: int) -> None:
        """Append a piece; beyond the limit, or on a full disk, it is only counted in `dropped`. Raises StoreError.

        A step that fills the disk must end with its own error, not with that of its log.
        """
        if self._closed:
            return
        kept = data[: self._left]
        self._left -= len(kept)
        self.dropped += len(data) - len(kept)
        if kept:
            try:
                with disk_errors("write the log of a step"):
                    if self._file is None:
                        self._file = self._open()
                    self._file.write(_FRAME.pack(offset_us, stream, len(kept)) + kept)
            except DiskFull:
                self._left = 0
                self.dropped += len(kept)

    def flush(self) -> None:
        """Let readers see what was written."""
        if self._file is not None:
            try:
                with disk_errors("write the log of a step"):
                    self._file.flush()
            except DiskFull:
                self._left = 0

    def close(self) -> None:
        """End and pack the log; one on a full disk stays unpacked. Idempotent."""
        self._closed = True
        file, self._file = self._file, None
        if file is None:
            return
        temporary = self._path.with_suffix(".tmp")
        try:
            with disk_errors("write the log of a step"):
                file.close()
                self._pack(temporary)
        except DiskFull:
            temporary.unlink(missing_ok=True)

    def _open(self) -> BinaryIO:
        self._path.parent.mkdir(mode=0o700, exist_ok=True)
        file = open(self._path, "wb", buffering=1 << 16)  # noqa: SIM115 (closed by `close`)
        file.write(_PLAIN)
        return file

    def _pack(self, temporary: Path) -> None:
        import zlib

        data = self._path.read_bytes()[1:]
        temporary.write_bytes(_PACKED + zlib.compress(data, 1))
        os.replace(temporary, self._path)


class Records:
    """The build history of one store."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        lease: Callable[[], Lease],
        leases: Callable[[], Leases],
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._directory = directory
        self._lease = lease
        self._leases = leases
        self._clock = clock

    def start_build(self, *, dockerfile: bytes = b"", facts: Mapping[str, object] | None = None) -> str:
        """A new build, now running; returns its id (24 hex digits that sort by time)."""
        now, lease = self._clock(), self._lease()
        build = new_build(now)
        with self._database.write():
            self._database.run(
                INSERT_BUILD, (build, now, None, RUNNING, None, lease.id, json.dumps(facts or {}), dockerfile)
            )
        return build

    def add_step(self, step: StepRecord) -> None:
        """Keep a step, instead of what was known of the same number."""
        self.add_steps([step])

    def add_steps(self, steps: list[StepRecord]) -> None:
        """As `add_step` for several in one transaction. Raises BuildNotFound."""
        if not steps:
            return
        with self._database.write():
            for build in {step.build for step in steps}:
                if self._database.row("SELECT 1 FROM builds WHERE id = ?", (build,)) is None:
                    raise BuildNotFound(build)
            self._database.run_many(
                INSERT_STEP,
                [
                    (
                        step.build,
                        step.number,
                        step.name,
                        step.status,
                        step.key,
                        step.step,
                        step.layer,
                        step.started,
                        step.finished,
                        step.exit_code,
                        json.dumps(step.facts),
                    )
                    for step in steps
                ],
            )

    def finish_build(
        self,
        build: str,
        status: str,
        *,
        image: str | None = None,
        error: str | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        """Say how a build ended; `facts` are added to those of its start. Raises BuildNotFound."""
        with self._database.write():
            merged = {**self.get(build).facts, **(facts or {})}
            self._database.run(
                "UPDATE builds SET status = ?, finished = ?, image = ?, error = ?, lease = NULL, facts = ?"
                " WHERE id = ?",
                (status, self._clock(), image, error, json.dumps(merged), build),
            )

    def get(self, build: str) -> BuildRecord:
        """One build by id or unique start of it. Raises BuildNotFound."""
        rows = self._database.rows(f"SELECT {_BUILD} FROM builds WHERE id >= ? AND id < ?", (build, build + "g"))
        if len(rows) != 1 or not build:
            raise BuildNotFound(build)
        return self._build(rows[0])

    def list(self, *, limit: int = 100) -> tuple[BuildRecord, ...]:
        """The newest builds, newest first."""
        rows = self._database.rows(f"SELECT {_BUILD} FROM builds ORDER BY started DESC, id DESC LIMIT ?", (limit,))
        return tuple(self._build(row) for row in rows)

    def steps(self, build: str) -> tuple[StepRecord, ...]:
        """The steps of a build by number."""
        rows = self._database.rows(f"SELECT {_STEP} FROM steps WHERE build = ? ORDER BY number", (build,))
        return tuple(_step(row) for row in rows)

    def outdated(self) -> tuple[str, ...]:
        """The builds that need not be kept any longer, oldest first."""
        rows = self._database.rows(
            "SELECT id FROM builds WHERE started < ? AND status <> ?"
            " AND id NOT IN (SELECT id FROM builds ORDER BY started DESC, id DESC LIMIT ?)"
            " AND id NOT IN (SELECT build FROM cache_records WHERE build IS NOT NULL)"
            " AND id NOT IN (SELECT build FROM failed) ORDER BY started, id",
            (self._clock() - HISTORY_AGE, RUNNING, HISTORY),
        )
        return tuple(row[0] for row in rows)

    def remove(self, build: str) -> None:
        """Forget a build, its steps and logs. Idempotent."""
        with self._database.write():
            self._database.run("DELETE FROM builds WHERE id = ?", (build,))
        if build.isalnum():
            trees.remove(self._directory / build)

    # --- logs ---

    def open_log(self, build: str, step: int, *, limit: int = LOG_LIMIT) -> LogWriter:
        """Where the output of a step goes; the caller closes it."""
        return LogWriter(self._log(build, step), limit)

    def read_log(self, build: str, step: int) -> Iterator[LogChunk]:
        """The output of a step, running or ended; a torn end (killed build) is left out. Raises LogNotFound."""
        import zlib

        try:
            data = self._log(build, step).read_bytes()
        except FileNotFoundError:
            raise LogNotFound(build, step) from None
        body = zlib.decompress(data[1:]) if data[:1] == _PACKED else data[1:]
        return _frames(body)

    def _log(self, build: str, step: int) -> Path:
        if not build.isalnum():
            raise BuildNotFound(build[:100])
        return self._directory / build / f"{int(step)}.log"

    def _build(self, row: Row) -> BuildRecord:
        build, started, status, finished, image, error, lease, facts, dockerfile = row
        if status == RUNNING and lease not in self._leases().live():
            status = INTERRUPTED
        return BuildRecord(build, started, status, finished, image, error, json.loads(facts), bytes(dockerfile))


_BUILD = "id, started, status, finished, image, error, lease, facts, dockerfile"
_STEP = "build, number, name, status, key, step, layer, started, finished, exit_code, facts"


def _step(row: Row) -> StepRecord:
    build, number, name, status, key, step, layer, started, finished, exit_code, facts = row
    return StepRecord(build, number, name, status, key, step, layer, started, finished, exit_code, json.loads(facts))


def _frames(body: bytes) -> Iterator[LogChunk]:
    position = 0
    while position + _FRAME.size <= len(body):
        offset_us, stream, length = _FRAME.unpack_from(body, position)
        position += _FRAME.size
        if position + length > len(body):
            return
        yield LogChunk(offset_us, stream, body[position : position + length])
        position += length

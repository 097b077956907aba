"""Many files at once: ``filecopy.transfer`` in worker processes, or right here when they are few."""

from __future__ import annotations

import errno
import marshal
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeAlias

from builder.errors import ContextError
from builder.pipeline.filecopy import Changed, Facts, Goal, StatKey, transfer
from builder.pipeline.trees import open_directory
from builder.store.beside import Beside, cores
from builder.store.diskfaults import from_os_error

MANY = 1500
"""Files from which on workers pay: each costs some 30 ms to start."""
_PIECE = 256
_BYTES_PER_FILE = 40_000
"""Copying this many bytes takes about as long as the fixed cost of a file."""

Item: TypeAlias = "tuple[int, str, str, int, int, int, int, StatKey | None]"
"""(id, name, name at the goal, mode, uid, gid, size, what an earlier read found)."""


class Batch(NamedTuple):
    """Files of one directory; *goal* is a directory below the goal's root, None when nothing is copied."""

    directory: str
    goal: str | None
    items: Sequence[Item]


def run(
    source: int, goal: int | None, batches: Sequence[Batch], *, digest: bool, label: str
) -> Iterator[tuple[int, Facts]]:
    """Read all files of *batches* below the directory *source*, copy them below *goal*; (id, facts) for each, in any
    order.

    Goal directories are made where they are missing. *label* names the source in errors.
    Raises: ContextError (a file changes, is unreadable, has gone), StoreError (disk full).
    """
    count = sum(len(batch.items) for batch in batches)
    workers = min(cores(), 4) if count >= MANY else 0
    if workers:
        yield from _in_processes(source, goal, batches, workers, digest=digest, label=label)
        return
    for batch in batches:
        failures: list[tuple[str, int]] = []
        yield from work(source, goal, batch, digest=digest, failures=failures)
        if failures:
            raise failure(label, *failures[0])


def work(
    source: int, goal: int | None, batch: Batch, *, digest: bool, failures: list[tuple[str, int]]
) -> Iterator[tuple[int, Facts]]:
    """One batch, ended by the first of *failures*: (path, errno or 0 for a file that changes). The worker's loop
    too."""
    path = batch.directory
    target = -1
    try:
        directory = open_directory(source, batch.directory)
    except OSError as err:
        failures.append((path, err.errno or errno.EIO))
        return
    try:
        if goal is not None and batch.goal is not None:
            target = _make(goal, batch.goal)
        for number, name, goal_name, mode, uid, gid, _, expected in batch.items:
            path = name if batch.directory == "." else f"{batch.directory}/{name}"
            to = Goal(target, goal_name, mode, uid, gid) if target >= 0 else None
            yield number, transfer(directory, name, to, expected=expected, digest=digest)
    except Changed:
        failures.append((path, 0))
    except OSError as err:
        failures.append((path, err.errno or errno.EIO))
    finally:
        os.close(directory)
        if target >= 0:
            os.close(target)


def failure(label: str, path: str, number: int) -> Exception:
    """The error for what ``work`` reported."""
    shown = "/" + path.lstrip("/")
    if number in (0, errno.ENOENT, errno.ELOOP, errno.EXDEV):
        return ContextError(
            f'"{shown}" in {label} changed while it was read', hint="build again when nothing writes to it"
        )
    err = OSError(number, os.strerror(number), shown)
    if number not in (errno.EACCES, errno.EPERM):
        translated = from_os_error(err, "copy")
        if translated is not None:
            return translated
    return ContextError(f'cannot read "{shown}" in {label}: {os.strerror(number)}')


def _make(root: int, path: str) -> int:
    """An open descriptor of the directory *path* below *root*, made where it is missing (0755)."""
    try:
        return open_directory(root, path)
    except FileNotFoundError:
        parts = path.split("/")
        for index in range(len(parts)):
            try:
                os.mkdir("/".join(parts[: index + 1]), 0o755, dir_fd=root)
            except FileExistsError:
                continue
        return open_directory(root, path)


class _Worker:
    """A started process with its share of the work."""

    def __init__(self, passed: Sequence[int]) -> None:
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        self.output = os.fdopen(ours_out, "rb")
        try:
            self._process = Beside(
                "builder.pipeline.copyworker", passed, passed=passed, standard=(theirs_in, theirs_out)
            )
        except BaseException:
            os.close(ours_in)
            self.output.close()
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._input = os.fdopen(ours_in, "wb")

    def send(self, share: Sequence[Batch], *, digest: bool) -> None:
        """Give it its work. Raises BrokenPipeError."""
        with self._input:
            marshal.dump((digest, [tuple(batch) for batch in share]), self._input)

    def results(self, label: str) -> Iterator[tuple[int, Facts]]:
        try:
            results, failed = marshal.load(self.output)
        except (EOFError, ValueError, TypeError) as err:
            raise ContextError("a copying process ended early", hint="was it killed for lack of memory?") from err
        if failed is not None:
            raise failure(label, *failed)
        for number, facts in results:
            yield number, Facts(*facts)

    def end(self) -> None:
        """Stop it if it still runs; once only."""
        self.output.close()
        self._process.end()


def _in_processes(
    source: int, goal: int | None, batches: Sequence[Batch], workers: int, *, digest: bool, label: str
) -> Iterator[tuple[int, Facts]]:
    passed = (source,) if goal is None else (source, goal)
    with ExitStack() as undo:
        started = []
        try:
            for share in _shares(batches, workers):
                worker = _Worker(passed)
                undo.callback(worker.end)
                worker.send(share, digest=digest)
                started.append(worker)
        except BrokenPipeError as err:
            raise ContextError("a copying process ended early", hint="was it killed for lack of memory?") from err
        # A worker writes when it is done with everything, so that waiting for one does not stop another.
        for worker in started:
            yield from worker.results(label)


def _shares(batches: Sequence[Batch], workers: int) -> list[list[Batch]]:
    """*batches* in *workers* shares of about equal cost; directories are cut into pieces."""
    shares: list[list[Batch]] = [[] for _ in range(workers)]
    costs = [0.0] * workers
    for batch in batches:
        for start in range(0, len(batch.items), _PIECE):
            items = batch.items[start : start + _PIECE]
            lightest = costs.index(min(costs))
            shares[lightest].append(Batch(batch.directory, batch.goal, items))
            costs[lightest] += sum(1 + item[6] / _BYTES_PER_FILE for item in items)
    return [share for share in shares if share]

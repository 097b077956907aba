"""The entries of a large layer with what is in its files, found and read by a process beside us.

Half of what a changeset costs is finding, opening and reading files, the other half making headers and digests of them:
``read_on`` leaves the first half to ``main``, in a second process.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeAlias

from builder.errors import StoreError
from builder.store.beside import Beside
from builder.store.layerwalk import walk

Fields: TypeAlias = "tuple[bytes, bytes, int, int, int, int, int, bytes, tuple[int, int], list[tuple[bytes, bytes]]]"
"""An entry as ``layerwalk.Found`` has it, up to its xattrs."""
Read: TypeAlias = "tuple[Fields, int, bytes]"
"""(entry, the descriptor of a file that is to be read or -1, the content of a file that was read already)."""

_SMALL = 1 << 16
"""Bytes up to which a file is read there; of a larger one the descriptor comes over."""
_BATCH = 1 << 17
"""Bytes that go over at a time, an entry without its content counted as _ENTRY."""
_ENTRY = 128
_HEAD = struct.Struct("=I")
"""Ahead of each batch: its length in bytes. The descriptor of its last entry comes with it."""


def read_on(root: Path | int, *, skip: int, overlay: bool) -> Generator[Read, None, None]:
    """As ``walk`` and in its order, after the first *skip* entries; a descriptor is valid until the next entry.

    Raises: OSError; StoreError when the second process was killed.
    """
    with ExitStack() as undo:
        if isinstance(root, Path):
            root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, root)
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        with theirs:
            arguments = (root, theirs.fileno(), skip, int(overlay))
            undo.callback(Beside(__name__, arguments, passed=arguments[:2]).end)
        more = True
        while more:
            head, fds, _, _ = socket.recv_fds(ours, _HEAD.size, 1)
            try:
                data = ours.recv(_HEAD.unpack(head)[0], socket.MSG_WAITALL) if head else b""
                if not data:
                    raise StoreError("a reading process ended early", hint="was it killed for lack of memory?")
                batch, more, failed = marshal.loads(data)
                for fields, content in batch:
                    yield fields, fds[0] if content is None else -1, content or b""
                if failed is not None:
                    raise OSError(*failed)
            finally:
                for fd in fds:
                    os.close(fd)


def main(arguments: Sequence[str]) -> None:
    """The second process."""
    top, goal, skip, overlay = map(int, arguments)
    batch: list[tuple[Fields, bytes | None]] = []
    size = 0
    with socket.socket(fileno=goal) as stream:

        def send(
            fds: Sequence[int] = (), *, more: bool = True, failed: tuple[int | None, str, str | None] | None = None
        ) -> None:
            data = marshal.dumps((batch, more, failed))
            data = _HEAD.pack(len(data)) + data
            sent = socket.send_fds(stream, [data], fds)
            stream.sendall(memoryview(data)[sent:])
            batch.clear()

        try:
            for found in islice(walk(top, overlay=bool(overlay)), skip, None):
                large = found.size > _SMALL
                # One byte more than there should be: that the file is longer by now must show.
                content = None if large else os.read(found.fd, found.size + 1) if found.size else b""
                batch.append((found[:10], content))
                size += _ENTRY + len(content or b"")
                if large or size >= _BATCH:
                    send([found.fd] if large else [])
                    size = 0
            send(more=False)
        except BrokenPipeError:
            pass  # nobody waits for it any more
        except OSError as err:
            send(more=False, failed=(err.errno, err.strerror or str(err), err.filename))

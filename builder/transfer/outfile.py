"""Files outside of the store that we write: whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MODE = 0o666


@contextmanager
def whole_file(path: Path, *, mode: int | None = None) -> Iterator[Callable[[bytes], object]]:
    """Something to write the file `path` with, which appears (synced) when the block ends well, and not otherwise.

    What is no regular file (a pipe, /dev/stdout) is written as it is. `mode` None is what the umask leaves.
    Raises OSError.
    """
    try:
        plain = stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        plain = True
    if not plain:
        with open(path, "wb", buffering=1 << 20) as stream:
            yield stream.write
        return
    path = Path(os.path.realpath(path))  # behind a symlink the file is replaced, not the link
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:200]}.", dir=path.parent)
    except OSError as err:
        raise OSError(err.errno, err.strerror, os.fspath(path)) from None  # the name that the user gave
    try:
        with open(descriptor, "wb", buffering=1 << 20) as file:
            yield file.write
            file.flush()
            os.fchmod(descriptor, _MODE & ~_umask() if mode is None else mode)
            os.fsync(descriptor)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022

"""Files outside of the store that we write: whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_MODE = 0o666


@contextmanager
def whole_file(path: Path, *, mode: int | None = None, follow: bool = True) -> Iterator[Callable[[bytes], object]]:
    """Something to write the file `path` with, which appears (synced) when the block ends well, and not otherwise.

    What is no regular file (a pipe, /dev/stdout) is written as it is, and a symlink followed; without `follow`, for
    names that no user gave, the file takes the place of either. `mode` None is what the umask leaves.
    Raises OSError.
    """
    try:
        plain = not follow or stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        plain = True
    if not plain:
        with open(path, "wb", buffering=1 << 20) as stream:
            yield stream.write
        return
    # Behind a symlink the file is replaced, not the link.
    path = Path(os.path.realpath(path if follow else path.parent), "" if follow else path.name)
    temporary: str | None = None
    try:
        try:
            # Without a name, so that nothing is left of it when we are killed.
            descriptor = os.open(path.parent, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as err:
            if err.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
            descriptor, temporary = tempfile.mkstemp(prefix=_hidden(path), dir=path.parent)
    except OSError as err:
        raise OSError(err.errno, err.strerror, os.fspath(path)) from None  # the name that the user gave
    try:
        with open(descriptor, "wb", buffering=1 << 20) as file:
            yield file.write
            file.flush()
            os.fchmod(descriptor, _MODE & ~_umask() if mode is None else mode)
            os.fsync(descriptor)
            if temporary is None:
                name = str(path.parent / f"{_hidden(path)}{os.urandom(6).hex()}")
                # The path is absolute; with a directory given it is followed to the file.
                os.link(f"/proc/self/fd/{descriptor}", name, src_dir_fd=descriptor)
                temporary = name
        os.rename(temporary, path)
    except BaseException:
        if temporary is not None:
            os.unlink(temporary)
        raise


def _hidden(path: Path) -> str:
    return f".{path.name[:200]}."


def _umask() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Umask:"):
            return int(line.split()[1], 8)
    return 0o022

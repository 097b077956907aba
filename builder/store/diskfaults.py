"""Faults of the disk under a store, from errno: which error they are, and what to do about them."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager

from builder.errors import DeviceFailed, DiskFull, StoreError, StoreReadOnly, StoreUnreadable, TooManyOpenFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_ERRNO: dict[int, tuple[type[StoreError], str | None]] = {
    errno.ENOSPC: (DiskFull, "free some space (lamina system prune removes what is unused), then try again"),
    errno.EDQUOT: (DiskFull, "the disk quota is used up: free some space, then try again"),
    errno.EIO: (DeviceFailed, "the kernel's log (dmesg) says more about the device"),
    errno.EMFILE: (TooManyOpenFiles, "raise the limit of open files (ulimit -n)"),
    errno.ENFILE: (TooManyOpenFiles, "the whole system has too many open files"),
    errno.EROFS: (StoreReadOnly, "choose another store with --root"),
    errno.EACCES: (StoreUnreadable, "check its owner and mode, or choose another store with --root"),
    errno.EPERM: (StoreUnreadable, "check its owner and mode, or choose another store with --root"),
}


def from_os_error(err: OSError, action: str) -> StoreError | None:
    """The error to show for `err` while doing `action` ("commit layer"), or None if it says nothing about the disk."""
    known = _BY_ERRNO.get(err.errno or 0)
    if known is None:
        return None
    kind, hint = known
    path = os.fsdecode(err.filename) if isinstance(err.filename, str | bytes) else None
    where = f" {path}" if path else ""
    return kind(f"cannot {action}:{where} {err.strerror or err}".replace(":  ", ": "), hint=hint)


@contextmanager
def disk_errors(action: str) -> Iterator[None]:
    """Turn the OSErrors of a full, failing or forbidden disk into StoreErrors; other OSErrors pass unchanged."""
    try:
        yield
    except OSError as err:
        translated = from_os_error(err, action)
        if translated is None:
            raise
        raise translated from err

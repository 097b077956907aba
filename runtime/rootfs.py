"""Root file systems from layers: overlay mounts that are attached nowhere, and paths inside them.

``open_rootfs`` is for whoever reads or writes a container's files from outside (copy, commit, cp, export); init uses
``overlay`` for the container itself. Nothing here ever appears in the host's mount table.
"""

from __future__ import annotations

from runtime.spec import Rootfs


def open_rootfs(rootfs: Rootfs) -> int:
    """A directory descriptor on the merged layers: a detached mount, unmounted when the descriptor is closed.

    Writable when *rootfs* has an upper directory and is not readonly; writes then go there, as overlay whiteouts where
    something is deleted. Without an upper directory it is read-only. Raises MountFailed, KernelUnsupported.
    """
    raise NotImplementedError

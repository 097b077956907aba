"""A container's own terminal: made in its devpts, sent to the parent, taken by its process."""

from __future__ import annotations

import fcntl
import os
import struct

from runtime import sync, targets
from runtime.linux import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

_TIOCSPTLCK, _TIOCGPTPEER, _TIOCSCTTY, _TIOCSWINSZ = 0x40045431, 0x5441, 0x540E, 0x5414


def open_terminal(root: int, sock: socket) -> int:
    """A new terminal of the devpts in *root*: its master is sent to the parent, its slave returned."""
    master = targets.find(root, "/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    sync.send(sock, ("console",), (master,))
    os.close(master)
    return slave


def mount_console(root: int, slave: int) -> None:
    """Make *slave* the container's /dev/console; by descriptor, since names can be exchanged (CVE-2025-52565)."""
    tree = mounts.open_tree(slave, "", mounts.OPEN_TREE_CLONE | mounts.AT_EMPTY_PATH)
    target = targets.locate(root, "/dev/console", directory=False)
    mounts.move_mount(tree, target)
    os.close(target)
    os.close(tree)


def take_terminal(slave: int, size: tuple[int, int] | None, uid: int) -> None:
    """Make *slave* the controlling terminal and the three standard descriptors."""
    if size is not None:
        fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("HHHH", size[0], size[1], 0, 0))
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    try:
        os.fchown(slave, uid, -1)
    except OSError:
        pass  # an id the user namespace does not have
    for fd in (0, 1, 2):
        os.dup2(slave, fd, inheritable=True)
    os.close(slave)

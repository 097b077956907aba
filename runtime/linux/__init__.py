"""System calls that Python's ``os`` lacks: one thin wrapper per call, no policy, ``OSError`` with the call's name.

libc      how a system call is made and how its failure becomes an OSError
files     openat2, statx-free helpers on directory descriptors, renameat2, copy, syncfs, file handles
mounts    the mount API: fsopen, fsmount, open_tree, move_mount, mount_setattr, pivot_root
process   clone3, namespaces, pidfd, capabilities, prctl, seccomp, close_range
netlink   rtnetlink, nftables: sockets to the kernel's network configuration

The only place for ctypes. Constants carry the header that they come from.
"""

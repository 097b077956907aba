"""What a container is to be, as frozen values: everything that init needs, and nothing about images.

The values travel as plain dictionaries (``Spec.to_dict``: JSON-able; the launcher, the supervisor and the container
directory's ``spec.json`` all hold that form). Words are those of the OCI runtime specification where it has one.
This module is not imported by the launcher, whose start-up cannot afford ``dataclasses``: it sees the same attributes
on plain objects (``runtime.sync.as_object``). So these classes have fields and no methods that init could want to call.
"""

from __future__ import annotations

from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping
from typing import Any

from runtime.values import dataclass, is_dataclass


@dataclass(frozen=True, slots=True)
class Rootfs:
    """The layers of a root file system. *lowers*: host paths, topmost first, never written to.

    *upper* and *work* are given together and lie on one file system. Without them the root is read-only when
    *readonly*, and otherwise writable with everything written going to memory and lost at the end.
    *volatile*: skip every sync of the upper directory (build steps: the store syncs once at commit).
    *keep_mount_points*: directories made for ``Spec.mounts`` stay in *upper*, as `docker run` leaves them; a build step
    says False and its layer stays clean.
    """

    lowers: tuple[str, ...] = ()
    upper: str | None = None
    work: str | None = None
    volatile: bool = False
    readonly: bool = False
    keep_mount_points: bool = False


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount beyond the standard ones; one with the destination of a standard mount replaces it, as in docker.

    *type*:
      ``bind``     *source* is a host path (directory or file). Options: ro rw, bind rbind (default), nosuid nodev
                   noexec, private rprivate slave rslave shared rshared (default rprivate).
      ``tmpfs``    options: size=N[kmg] mode=OCTAL uid= gid= ro noexec exec nosuid suid nodev dev nr_inodes=.
      ``overlay``  *rootfs* seen as a directory (a stage or context as a mount; with no upper and not readonly its
                   writes are lost at the end). Options as bind.
      ``file``     *data* as a file in memory. Options: mode=OCTAL (default 0444) uid= gid= ro.
      ``proc`` ``sysfs`` ``devpts`` ``mqueue`` ``cgroup``: a fresh one.
    *subpath*: for bind and overlay, a path inside the source, resolved inside it whatever symlinks it holds.
    """

    type: str
    source: str
    destination: str
    options: tuple[str, ...] = ()
    subpath: str = ""
    rootfs: Rootfs | None = None
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class Rlimit:
    """*name* without RLIMIT_, in lower case (``nofile``); -1 is unlimited. Capped by what this process may set."""

    name: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True)
class Process:
    """What is executed. *user*: "" | name | uid, optionally :group | :gid, looked up in the image's own files.

    *env* in order, "KEY=value"; HOME is added from passwd when absent. *capabilities* are names without CAP_.
    *additional_groups*: names or numbers (--group-add). *console_size* is (rows, columns).
    *oom_score_adj*: None leaves it as it is.
    """

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    terminal: bool = False
    console_size: tuple[int, int] | None = None
    capabilities: tuple[str, ...] = ()
    no_new_privileges: bool = False
    rlimits: tuple[Rlimit, ...] = ()
    umask: int = 0o022
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits; None means none. Bytes, microseconds (*cpu_period*, *cpu_quota*), shares 2..262144, weight 10..1000.

    *memory_swap* is memory plus swap, as docker's --memory-swap; -1 is unlimited.
    """

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids_limit: int | None = None
    blkio_weight: int | None = None


@dataclass(frozen=True, slots=True)
class IdMap:
    """*count* ids from *inside* the container's user namespace on are *outside* and the following ones."""

    inside: int
    outside: int
    count: int


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Each one "private" (new), "host" (the caller's) or the path of an existing one (/proc/PID/ns/net).

    *network* also takes "none", which means the same as private: a new one with only a loopback in it. What is to be
    connected is connected by the network hook of ``Launcher.start``. *uid_maps* and *gid_maps*: not empty means a user
    namespace of its own.
    """

    network: str = "none"
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroup: str = "private"
    time: str = "private"
    uid_maps: tuple[IdMap, ...] = ()
    gid_maps: tuple[IdMap, ...] = ()


@dataclass(frozen=True, slots=True)
class Device:
    """A device beyond the standard ones. *kind* "c" or "b"; *access* any of "rwm" (for the device cgroup)."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0
    access: str = "rwm"


@dataclass(frozen=True, slots=True)
class Spec:
    """A whole container. *id*: letters, digits, ``_.-``; names its cgroup, unless it takes a prepared process with one.

    See ``runtime.defaults`` for a good start.

    *seccomp*: "default", "unconfined" or the JSON text of a profile in docker's form.
    *hosts* and *resolv_conf*: the text of /etc/hosts and /etc/resolv.conf, None for whatever the image has; they and
    /etc/hostname live in memory and never reach a layer.
    *sysctls*: (dotted name, value). *init*: a small reaper is PID 1 and starts the process (docker's --init).
    *privileged* makes all host devices and a writable /sys available; capabilities, seccomp and masked paths are as
    the other fields say, ``defaults.privileged`` sets them all.
    *cgroup_parent*: directory below the cgroup root to put the container in; "" is our own.
    """

    id: str
    rootfs: Rootfs
    process: Process
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    namespaces: Namespaces = Namespaces()
    resources: Resources = Resources()
    seccomp: str = "default"
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    devices: tuple[Device, ...] = ()
    sysctls: tuple[tuple[str, str], ...] = ()
    hosts: str | None = None
    resolv_conf: str | None = None
    shm_size: int = 64 << 20
    init: bool = False
    privileged: bool = False
    cgroup_parent: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able values; bytes as base64 text."""
        value = to_plain(self)
        assert isinstance(value, dict)
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Spec:
        """The inverse of ``to_dict``; fields that are absent get their defaults, unknown ones raise TypeError."""
        given = dict(value)
        given["rootfs"] = rootfs_from_dict(given["rootfs"])
        given["process"] = process_from_dict(given["process"])
        given["mounts"] = tuple(_mount(item) for item in given.get("mounts", ()))
        given["devices"] = tuple(Device(**item) for item in given.get("devices", ()))
        given["sysctls"] = tuple((name, text) for name, text in given.get("sysctls", ()))
        given["masked_paths"] = tuple(given.get("masked_paths", ()))
        given["readonly_paths"] = tuple(given.get("readonly_paths", ()))
        if "namespaces" in given:
            namespaces = dict(given["namespaces"])
            for maps in ("uid_maps", "gid_maps"):
                namespaces[maps] = tuple(IdMap(**item) for item in namespaces.get(maps, ()))
            given["namespaces"] = Namespaces(**namespaces)
        if "resources" in given:
            given["resources"] = Resources(**given["resources"])
        return cls(**given)


def rootfs_from_dict(value: Mapping[str, Any]) -> Rootfs:
    """A Rootfs from its plain form."""
    return Rootfs(**{**value, "lowers": tuple(value.get("lowers", ()))})


def process_from_dict(value: Mapping[str, Any]) -> Process:
    """A Process from its plain form."""
    given = dict(value)
    for name in ("argv", "env", "additional_groups", "capabilities"):
        given[name] = tuple(given.get(name, ()))
    given["rlimits"] = tuple(Rlimit(**item) for item in given.get("rlimits", ()))
    if given.get("console_size") is not None:
        given["console_size"] = tuple(given["console_size"])
    return Process(**given)


def to_plain(value: object) -> object:
    """Dataclasses become dictionaries, tuples lists, bytes base64 text; all else stays."""
    if value is None or isinstance(value, (str, int)):
        return value
    if isinstance(value, (tuple, list)):
        return [item if isinstance(item, str) else to_plain(item) for item in value]
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode("ascii")
    slots: tuple[str, ...] = getattr(value, "__slots__", ())
    return {name: to_plain(getattr(value, name)) for name in slots} if is_dataclass(value) else value


def _mount(value: Mapping[str, Any]) -> Mount:
    given = dict(value)
    given["options"] = tuple(given.get("options", ()))
    if given.get("rootfs") is not None:
        given["rootfs"] = rootfs_from_dict(given["rootfs"])
    if "data" in given:
        given["data"] = a2b_base64(given["data"])
    return Mount(**given)

"""A minimal Debian from its packages: chosen, fetched, unpacked by us, configured by its own dpkg in a container."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DownloadFailed, EngineError
from builder.store import apply
from builder.transfer import mirrors

if TYPE_CHECKING:
    from builder.store.snapshots import Active
    from builder.transfer.mirrors import Mirror, Package, Source
    from runtime.container import Launcher

_MERGED = ("bin", "sbin", "lib", "lib64")
_DEBS = "var/cache/apt/archives"
_CONFIGURE = f"""set -e
export DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C
dpkg --force-depends --install /{_DEBS}/base-passwd_*.deb /{_DEBS}/base-files_*.deb
dpkg --force-depends --install /{_DEBS}/dpkg_*.deb /{_DEBS}/libc6_*.deb
dpkg --force-depends --force-confold --unpack /{_DEBS}/*.deb
dpkg --force-confold --configure -a
rm -rf /{_DEBS}/*.deb /var/lib/dpkg/*-old /var/cache/debconf/*-old /var/log/dpkg.log /var/log/alternatives.log
"""


def chosen(packages: Mapping[str, Package], include: Sequence[str]) -> tuple[Package, ...]:
    """Essential and required packages, apt, *include*, and all that they depend on; sorted by name.

    Raises: DownloadFailed for a package that the mirror does not have.
    """
    provided: dict[str, str] = {}
    for one in packages.values():
        for name in one.provides:
            provided.setdefault(name, one.name)
    first = [one.name for one in packages.values() if one.essential or one.priority == "required"]
    waiting = [*first, "apt", *include]
    found: dict[str, Package] = {}
    while waiting:
        name = waiting.pop()
        name = name if name in packages else provided.get(name, name)
        if name in found:
            continue
        if name not in packages:
            raise DownloadFailed(f"the mirror has no package {name}")
        found[name] = packages[name]
        for group in packages[name].depends:
            there = [one if one in packages else provided.get(one, "") for one in group]
            if not any(one in found for one in there):
                waiting.append(next((one for one in there if one), group[0]))
    return tuple(found[name] for name in sorted(found))


def unpack(
    mirror: Mirror, packages: Sequence[Package], root: Path, told: Callable[[int], object] = lambda size: None
) -> None:
    """Fetch *packages*, four at a time, and unpack them below *root*, where they stay as files for dpkg too.

    *told* hears how many bytes have come, from this thread.
    """
    from concurrent.futures import ThreadPoolExecutor

    for name in _MERGED:
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in (_DEBS, "var/lib/dpkg/info", "var/lib/dpkg/updates", "etc/apt"):
        (root / name).mkdir(parents=True)
    for name in ("status", "available"):
        (root / "var/lib/dpkg" / name).touch()
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    done = 0
    try:
        with ThreadPoolExecutor(4) as pool:
            for package, deb in zip(packages, pool.map(mirror.download, packages), strict=True):
                (root / _DEBS / f"{package.name}_.deb").write_bytes(deb)
                _, data = mirrors.data_member(deb)
                apply.extract_archive(io.BytesIO(data), fd, "/", keep_links=True)
                done += package.size
                told(done)
    finally:
        os.close(fd)


def configure(launcher: Launcher, active: Active, sources: Sequence[Source]) -> None:
    """Let the new system's dpkg install what was unpacked, in a container on *active*; then write apt's sources.

    Raises: EngineError with the end of dpkg's output, ContainerError.
    """
    from runtime.defaults import build_spec
    from runtime.spec import Process, Rootfs

    root = active.upper
    policy = root / "usr/sbin/policy-rc.d"
    # Asked by maintainer scripts before they start a service: 101 forbids it.
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    rootfs = Rootfs(tuple(map(str, active.lowers)), str(active.upper), str(active.work), volatile=True)
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    process = Process(argv=("/bin/sh", "-c", _CONFIGURE), env=(path,))
    read, write = os.pipe2(os.O_CLOEXEC)
    with os.fdopen(read, "rb") as output:
        try:
            running = launcher.start(build_spec(active.key, rootfs, process), stdout=write, stderr=write)
        finally:
            os.close(write)
        tail = b""
        while data := output.read1(1 << 16):
            tail = (tail + data)[-2000:]
        ended = running.wait()
    if ended.code:
        raise EngineError(f"packages cannot be configured: exit code {ended.code}: {tail.decode(errors='replace')}")
    policy.unlink()
    lines = [f"deb {source.uri} {source.suite} main\n" for source in sources]
    (root / "etc/apt/sources.list").write_text("".join(lines))

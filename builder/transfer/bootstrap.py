"""Base images without any registry: ``busybox`` and ``debian``, made from the packages of the host's Debian mirror.

For any platform that Debian has: several give an index. A busybox is only laid out, so it may be for any machine; a
Debian is configured by its own programs, which this machine must be able to run.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DownloadFailed, Unsupported
from builder.oci import mutate, platforms, times
from builder.oci.configs import ContainerConfig, History
from builder.oci.references import Reference
from builder.store import apply, changesets
from builder.store.leases import CACHE
from builder.transfer import busybox, mirrors
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.store import Store
    from builder.store.snapshots import Active
    from runtime.container import Launcher

BASES = ("busybox", "debian")
"""What can be made."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a bootstrap is doing: shown as a line, or as a bar when *total* is given."""

    text: str
    done: int = 0
    total: int = 0
    """Bytes; 0 when unknown."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to make."""

    name: str
    """"busybox", "debian" or "debian:SUITE"."""
    created: datetime
    """Of a Debian; a busybox has the time of its program."""
    mirror: str | None = None
    """Base address of a Debian mirror; None: the host's apt configuration says which."""
    tag: str | None = None
    """Reference for the image; None: "busybox:latest" or "debian:SUITE" (and "debian:latest" when no suite was
    named).
    """
    include: tuple[str, ...] = ()
    """More packages."""
    proxies: tuple[tuple[str, str], ...] = ()
    """(scheme, address) as the caller found them in its environment."""
    platforms: tuple[Platform, ...] = ()
    """None is this machine's."""


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The image that was made, or the index of the images."""

    image_id: Digest
    references: tuple[str, ...]
    verified: bool
    """The mirror's signature was checked against the host's keyring."""
    packages: int


_SUITE = "bookworm"
"""The Debian that "debian" means."""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_ARCHITECTURES = {
    "386": "i386",
    "arm/v5": "armel",
    "arm/v6": "armel",
    "arm/v7": "armhf",
    "ppc64le": "ppc64el",
    "mips64le": "mips64el",
}
"""What Debian calls architectures that it does not call as images do."""
_HOST = platforms.host(os.uname().machine)


def bootstrap(
    store: Store,
    request: Request,
    launcher: Launcher | None = None,
    *,
    emit: Callable[[Progress], object] = lambda progress: None,
    etc_apt: Path = Path("/etc/apt"),
) -> Bootstrapped:
    """Make the image *request* asks for and tag it.

    Raises: DownloadFailed (no mirror known, not reachable, wrong signature), DigestMismatch, Unsupported (a name that
    cannot be made), StoreError.
    """
    name, _, suite = request.name.partition(":")
    suite = "" if suite == "latest" else suite
    if name not in BASES or (name == "busybox" and suite) or (name == "debian" and launcher is None):
        raise Unsupported(f"cannot bootstrap {request.name!r}", hint="busybox and debian[:suite] can be made")
    wanted = request.platforms or (_HOST,)
    if name == "debian":
        for platform in wanted:
            _check_runs(platform)
    made = []
    for platform in wanted:
        if name == "busybox":
            made.append(_busybox(store, request, platform, emit, etc_apt))
        else:
            assert launcher is not None
            made.append(_debian(store, request, platform, suite or _SUITE, launcher, emit, etc_apt))
    top = made[0].image if len(made) == 1 else store.indexes.make([one.image for one in made])
    names = ("busybox:latest",) if name == "busybox" else (f"debian:{suite or _SUITE}", *(() if suite else ("debian",)))
    references = [Reference.parse(tag).tagged() for tag in ((request.tag,) if request.tag else names)]
    store.images.tag_all(references, top)
    verified, packages = all(one.verified for one in made), sum(one.packages for one in made)
    return Bootstrapped(top, tuple(one.familiar() for one in references), verified, packages)


@dataclass(frozen=True, slots=True)
class _Made:
    image: Digest
    verified: bool
    packages: int


def _check_runs(platform: Platform) -> None:
    """Refuse a platform whose programs this machine cannot run. Raises Unsupported."""
    from runtime import binfmt

    machine = os.uname().machine
    if binfmt.is_native(platform.architecture, machine):
        return
    known = binfmt.handlers()
    if known is not None and not any(one.fixed for one in binfmt.fitting(platform.architecture, known)):
        raise Unsupported(
            f"this machine ({machine}) cannot run programs for {platform}, and debian is configured by its own",
            hint="apt-get install qemu-user-static binfmt-support makes the kernel run them (slowly)",
        )


def _debian(
    store: Store,
    request: Request,
    platform: Platform,
    suite: str,
    launcher: Launcher,
    emit: Callable[[Progress], object],
    etc_apt: Path,
) -> _Made:
    from builder.transfer import debian

    source = replace(_source(request, etc_apt), suite=suite)
    active = store.snapshots.prepare(())
    try:
        with store.scratch() as scratch:
            mirror = _mirror(store, request, source, platform, scratch, emit, etc_apt)
            packages = debian.chosen(mirror.packages, request.include)
            text, total = f"fetching {len(packages)} packages", sum(one.size for one in packages)
            emit(Progress(text, 0, total))
            debian.unpack(mirror, packages, active.upper, lambda done: emit(Progress(text, done, total)))
            emit(Progress("configuring packages"))
            more = [one for one in _updates(source, etc_apt) if mirrors.exists(one, request.proxies)]
            debian.configure(launcher, active, (source, *more))
    except BaseException:
        store.snapshots.discard(active)
        raise
    config = ContainerConfig(env=(PATH,), cmd=("bash",))
    created = request.created.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return _Made(_kept(store, request, platform, active, config, created), mirror.verified, len(packages))


def _busybox(
    store: Store, request: Request, platform: Platform, emit: Callable[[Progress], object], etc_apt: Path
) -> _Made:
    verified = True
    active = store.snapshots.prepare(())
    try:
        with store.scratch() as scratch:
            own = platform == _HOST
            binary = next((path for path in busybox.CANDIDATES if own and busybox.is_static(path)), None)
            if binary is None:
                binary, verified = _fetched(store, request, platform, scratch, emit, etc_apt)
            emit(Progress("making the root file system"))
            busybox.lay_out(active.upper, binary, busybox.listed(binary) if own else busybox.applets(binary))
            created = times.text(binary.stat().st_mtime_ns)
    except BaseException:
        store.snapshots.discard(active)
        raise
    config = ContainerConfig(env=(PATH,), cmd=("sh",))
    return _Made(_kept(store, request, platform, active, config, created), verified, 1)


def _kept(
    store: Store, request: Request, platform: Platform, active: Active, container: ContainerConfig, created: str
) -> Digest:
    """The image of the one layer *active*; *created* as RFC 3339."""
    try:
        change = changesets.write(active.upper)
        layer = store.snapshots.commit(active, change)
    except BaseException:
        store.snapshots.discard(active)
        raise
    history = History(created=created, created_by=f"lamina bootstrap {request.name}")
    config = mutate.append(mutate.empty(platform), change.diff_id, history)
    return store.images.put(mutate.with_config(config, container), [layer.id], origin="bootstrap")


def _fetched(
    store: Store,
    request: Request,
    platform: Platform,
    scratch: Path,
    emit: Callable[[Progress], object],
    etc_apt: Path,
) -> tuple[Path, bool]:
    source = _source(request, etc_apt)
    mirror = _mirror(store, request, source, platform, scratch, emit, etc_apt)
    package = mirror.packages.get("busybox-static")
    if package is None:
        raise DownloadFailed(f"{source.uri} has no package busybox-static in {source.suite}")
    text = "fetching busybox-static"
    deb = mirror.download(package, lambda done, total: emit(Progress(text, done, total)))
    _, data = mirrors.data_member(deb)
    root = scratch / "busybox"
    root.mkdir()
    apply.extract(io.BytesIO(data), root)
    for path in (root / "bin/busybox", root / "usr/bin/busybox"):
        if busybox.is_static(path):
            return path, mirror.verified
    raise DownloadFailed("package busybox-static has no static busybox in it")


def _mirror(
    store: Store,
    request: Request,
    source: mirrors.Source,
    platform: Platform,
    scratch: Path,
    emit: Callable[[Progress], object],
    etc_apt: Path,
) -> mirrors.Mirror:
    called = str(platform).removeprefix("linux/")
    if platform.os != "linux":
        raise Unsupported(f"Debian is not made for {platform}", hint="platforms are linux/amd64, linux/arm64, …")
    store.lease().protect(CACHE, ["packages"])
    store.cache_mounts.note_use("packages", "bootstrap", "")
    text = f"reading {source.uri} {source.suite}" + (f" for {platform}" if request.platforms else "")
    emit(Progress(text))
    return mirrors.Mirror(
        source,
        _ARCHITECTURES.get(called, called),
        request.proxies,
        mirrors.keyrings(etc_apt, source),
        scratch,
        mirrors.Cache(store.layout.directory("caches") / "packages"),
        lambda done, total: emit(Progress(text, done, total)),
    )


def _updates(source: mirrors.Source, etc_apt: Path) -> tuple[mirrors.Source, ...]:
    """The suites beside *source* that bring updates and security fixes; whether the mirror has them, is to be seen."""
    known = [one.uri for one in mirrors.sources(etc_apt) if one.suite.endswith("-security")]
    security = known[0] if known else source.uri + "-security"
    return (
        replace(source, suite=f"{source.suite}-updates"),
        replace(source, suite=f"{source.suite}-security", uri=security),
    )


def _source(request: Request, etc_apt: Path) -> mirrors.Source:
    """The mirror to use: the caller's with the host's suite, or the first that apt has without a suffix in its
    suite.
    """
    known = [one for one in mirrors.sources(etc_apt) if "-" not in one.suite and "/" not in one.suite]
    if request.mirror is not None:
        keyring = known[0].keyring if known else None
        return mirrors.Source(request.mirror.rstrip("/"), known[0].suite if known else _SUITE, keyring)
    if not known:
        raise DownloadFailed(
            "no Debian mirror is known: this host has no apt configuration", hint="name one with --mirror"
        )
    return known[0]

"""Base images without any registry: ``busybox`` and ``debian``, made from the packages of the host's Debian mirror."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import DownloadFailed, Unsupported
from builder.oci import mutate, platforms
from builder.oci.configs import ContainerConfig, History
from builder.oci.references import Reference
from builder.store import apply, changesets
from builder.store.leases import CACHE
from builder.transfer import mirrors
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.store import Store
    from builder.store.snapshots import Active
    from runtime.container import Launcher


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


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The image that was made."""

    image_id: Digest
    references: tuple[str, ...]
    verified: bool
    """The mirror's signature was checked against the host's keyring."""
    packages: int


_SUITE = "bookworm"
"""The Debian that "debian" means."""
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "home",
    "proc",
    "root",
    "sys",
    "tmp",
    "usr",
    "usr/bin",
    "usr/sbin",
    "var",
    "var/tmp",
)
_PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n"
_PASSWD += "nobody:x:65534:65534:nobody:/home:/bin/false\n"
_GROUP = "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386", "ppc64le": "ppc64el"}


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
    if request.name in ("busybox", "busybox:latest"):
        return _busybox(store, request, emit, etc_apt)
    name, _, suite = request.name.partition(":")
    if name != "debian" or launcher is None:
        raise Unsupported(f"cannot bootstrap {request.name!r}", hint="busybox and debian[:suite] can be made")
    from builder.transfer import debian

    machine = os.uname().machine
    suite = "" if suite == "latest" else suite
    source = replace(_source(request, etc_apt), suite=suite or _SUITE)
    architecture = _ARCHITECTURES.get(machine, machine)
    active = store.snapshots.prepare(())
    try:
        with store.scratch() as scratch:
            mirror = _mirror(store, request, source, architecture, scratch, emit, etc_apt)
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
    tags = (request.tag,) if request.tag else (f"debian:{source.suite}", *(() if suite else ("debian:latest",)))
    config = ContainerConfig(env=(PATH,), cmd=("bash",))
    return _kept(store, request, active, config, tags, mirror.verified, len(packages))


def _busybox(store: Store, request: Request, emit: Callable[[Progress], object], etc_apt: Path) -> Bootstrapped:
    verified = True
    active = store.snapshots.prepare(())
    try:
        with store.scratch() as scratch:
            binary = next((path for path in _CANDIDATES if _is_static(path)), None)
            if binary is None:
                binary, verified = _fetched(store, request, scratch, emit, etc_apt)
            emit(Progress("making the root file system"))
            _lay_out(active.upper, binary)
    except BaseException:
        store.snapshots.discard(active)
        raise
    config = ContainerConfig(env=(PATH,), cmd=("sh",))
    return _kept(store, request, active, config, (request.tag or "busybox:latest",), verified, 1)


def _kept(
    store: Store,
    request: Request,
    active: Active,
    container: ContainerConfig,
    tags: tuple[str, ...],
    verified: bool,  # noqa: FBT001
    packages: int,
) -> Bootstrapped:
    """The image of the one layer *active*."""
    try:
        change = changesets.write(active.upper)
        layer = store.snapshots.commit(active, change)
    except BaseException:
        store.snapshots.discard(active)
        raise
    created = request.created.astimezone(UTC).isoformat().replace("+00:00", "Z")
    history = History(created=created, created_by=f"lamina bootstrap {request.name}")
    config = mutate.append(mutate.empty(platforms.host(os.uname().machine)), change.diff_id, history)
    image_id = store.images.put(mutate.with_config(config, container), [layer.id], origin="bootstrap")
    references = [Reference.parse(tag).tagged() for tag in tags]
    store.images.tag_all(references, image_id)
    return Bootstrapped(image_id, tuple(one.familiar() for one in references), verified, packages)


_CANDIDATES = (Path("/bin/busybox"), Path("/usr/bin/busybox"))


def _fetched(
    store: Store, request: Request, scratch: Path, emit: Callable[[Progress], object], etc_apt: Path
) -> tuple[Path, bool]:
    machine = os.uname().machine
    architecture = _ARCHITECTURES.get(machine, machine)
    source = _source(request, etc_apt)
    mirror = _mirror(store, request, source, architecture, scratch, emit, etc_apt)
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
        if _is_static(path):
            return path, mirror.verified
    raise DownloadFailed("package busybox-static has no static busybox in it")


def _mirror(
    store: Store,
    request: Request,
    source: mirrors.Source,
    architecture: str,
    scratch: Path,
    emit: Callable[[Progress], object],
    etc_apt: Path,
) -> mirrors.Mirror:
    store.lease().protect(CACHE, ["packages"])
    store.cache_mounts.note_use("packages", "bootstrap", "")
    text = f"reading {source.uri} {source.suite}"
    emit(Progress(text))
    return mirrors.Mirror(
        source,
        architecture,
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


def _lay_out(root: Path, binary: Path) -> None:
    import shutil
    import subprocess

    for name in _DIRECTORIES:
        (root / name).mkdir()
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "root").chmod(0o700)
    busybox = root / "bin/busybox"
    shutil.copyfile(binary, busybox)
    busybox.chmod(0o755)
    # The program's own list, so that no link leads to an applet that this build of it lacks.
    listed = subprocess.run([busybox, "--list"], capture_output=True, check=True, timeout=30).stdout.decode()
    for applet in listed.split():
        if applet != "busybox" and "/" not in applet:
            os.link(busybox, root / "bin" / applet)
    (root / "usr/bin/env").symlink_to("../../bin/env")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)
    (root / "etc/shadow").write_text("root:*:::::::\n")
    (root / "etc/shadow").chmod(0o600)


def _is_static(path: Path) -> bool:
    """Whether *path* is a 64-bit ELF program that asks for no dynamic loader (no PT_INTERP)."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:5] != b"\x7fELF\x02":
                return False
            start, size, count = (int.from_bytes(head[a:b], "little") for a, b in ((32, 40), (54, 56), (56, 58)))
            file.seek(start)
            table = file.read(size * count)
    except OSError:
        return False
    return all(int.from_bytes(table[at : at + 4], "little") != 3 for at in range(0, len(table), size or 1))

"""What makes two images different: files, packages, config, sizes, and what matters for security.

`compare` is a pure function of two `View`s; the contents of two files of the same size are asked for only where their
identity does not already say that they are one file of a shared layer.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from runtime.values import dataclass, fields

if TYPE_CHECKING:
    from builder.insight.listing import Entry
    from builder.insight.packages import Package
    from builder.oci.configs import ContainerConfig, ImageConfig

SET_IDS = stat.S_ISUID | stat.S_ISGID
CAPABILITY = b"security.capability"


class Kind(StrEnum):
    """What happened to a thing between the first and the second image."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class View:
    """What is compared of one image. `size` is the bytes of all its layers' files, `layers` their diff_ids."""

    name: str
    config: ImageConfig
    layers: tuple[str, ...]
    size: int
    entries: Mapping[str, Entry]
    packages: tuple[Package, ...]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One path. `what` says for people what changed: "content", "mode 0644 → 0755". Sizes in bytes, None: no file."""

    kind: Kind
    path: str
    what: tuple[str, ...]
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package; the versions in the first and the second image, "" where it is not installed."""

    ecosystem: str
    name: str
    before: str
    after: str

    @property
    def kind(self) -> Kind:
        """Added, removed or changed."""
        return Kind.ADDED if not self.before else Kind.REMOVED if not self.after else Kind.CHANGED


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One field of the config, in docker's spelling; texts, None where it is not set."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that differs, sorted. `security` are the files that gained or lost set-id bits or capabilities."""

    before: View
    after: View
    files: tuple[FileChange, ...]
    packages: tuple[PackageChange, ...]
    config: tuple[ConfigChange, ...]
    security: tuple[FileChange, ...]

    @property
    def shared_layers(self) -> int:
        """How many layers the two have in common from the bottom."""
        shared = 0
        for ours, theirs in zip(self.before.layers, self.after.layers, strict=False):
            if ours != theirs:
                break
            shared += 1
        return shared

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.files or self.packages or self.config)


def compare(before: View, after: View, same_content: Callable[[str], bool]) -> Comparison:
    """Compare; `same_content(path)` tells whether the regular file at `path` has the same bytes in both."""
    files = tuple(_files(before.entries, after.entries, same_content))
    return Comparison(
        before,
        after,
        files,
        tuple(_packages(before.packages, after.packages)),
        tuple(_config(before.config, after.config)),
        tuple(_security(files, before.entries, after.entries)),
    )


def _files(
    before: Mapping[str, Entry], after: Mapping[str, Entry], same_content: Callable[[str], bool]
) -> Iterator[FileChange]:
    for path in sorted(before.keys() | after.keys()):
        ours, theirs = before.get(path), after.get(path)
        if ours is None:
            assert theirs is not None
            yield FileChange(Kind.ADDED, path, (theirs.kind, *_notable(theirs)), None, theirs.size)
        elif theirs is None:
            yield FileChange(Kind.REMOVED, path, (ours.kind, *_notable(ours)), ours.size, None)
        elif ours != theirs:
            what = tuple(_differences(path, ours, theirs, same_content))
            if what:
                yield FileChange(Kind.CHANGED, path, what, ours.size, theirs.size)


def _notable(entry: Entry) -> Iterator[str]:
    if entry.kind == "file" and entry.mode & SET_IDS:
        yield f"mode {entry.mode:04o}"
    if _capability(entry):
        yield f"capabilities {_capability(entry)}"


def _differences(path: str, ours: Entry, theirs: Entry, same_content: Callable[[str], bool]) -> Iterator[str]:
    if ours.kind != theirs.kind:
        yield f"{ours.kind} → {theirs.kind}"
        return
    another = ours.kind == "file" and ours.identity != theirs.identity
    if another and (ours.size != theirs.size or not same_content(path)):
        yield "content"
    if ours.link != theirs.link:
        yield f"link {ours.link.decode(errors='replace')} → {theirs.link.decode(errors='replace')}"
    if ours.device != theirs.device:
        yield f"device {ours.device[0]}:{ours.device[1]} → {theirs.device[0]}:{theirs.device[1]}"
    if ours.mode != theirs.mode:
        yield f"mode {ours.mode:04o} → {theirs.mode:04o}"
    if (ours.uid, ours.gid) != (theirs.uid, theirs.gid):
        yield f"owner {ours.uid}:{ours.gid} → {theirs.uid}:{theirs.gid}"
    if _capability(ours) != _capability(theirs):
        yield f"capabilities {_capability(ours) or 'none'} → {_capability(theirs) or 'none'}"
    if _others(ours) != _others(theirs):
        yield "extended attributes"


def _capability(entry: Entry) -> str:
    """The permitted set of a file capability as hexadecimal digits, "" for none.

    The attribute is vfs_cap_data of linux/capability.h: magic, then permitted and inheritable for each 32 bits, all
    little-endian.
    """
    value = dict(entry.xattrs).get(CAPABILITY, b"")
    low, high = value[4:8], value[12:16]
    return f"{int.from_bytes(low + high, 'little'):016x}" if value else ""


def _others(entry: Entry) -> list[tuple[bytes, bytes]]:
    return [each for each in entry.xattrs if each[0] != CAPABILITY]


def _security(
    files: tuple[FileChange, ...], before: Mapping[str, Entry], after: Mapping[str, Entry]
) -> Iterator[FileChange]:
    for change in files:
        if _privilege(before.get(change.path)) != _privilege(after.get(change.path)):
            yield change


def _privilege(entry: Entry | None) -> tuple[int, str]:
    if entry is None or entry.kind != "file":
        return 0, ""
    return entry.mode & SET_IDS, _capability(entry)


def _packages(before: tuple[Package, ...], after: tuple[Package, ...]) -> Iterator[PackageChange]:
    ours, theirs = _versions(before), _versions(after)
    for key in sorted(ours.keys() | theirs.keys()):
        old, new = ours.get(key, ()), theirs.get(key, ())
        if old != new:
            yield PackageChange(key[0], key[1], ", ".join(old), ", ".join(new))


def _versions(packages: tuple[Package, ...]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Versions by ecosystem and name: one name may be installed in several versions (npm) or architectures (deb)."""
    found: dict[tuple[str, str], set[str]] = {}
    for package in packages:
        found.setdefault((package.ecosystem.value, package.name), set()).add(package.version)
    return {key: tuple(sorted(versions)) for key, versions in found.items()}


_DOCKER = {
    "user": "User",
    "working_dir": "WorkingDir",
    "entrypoint": "Entrypoint",
    "cmd": "Cmd",
    "shell": "Shell",
    "stop_signal": "StopSignal",
    "stop_timeout": "StopTimeout",
    "healthcheck": "Healthcheck",
    "on_build": "OnBuild",
    "exposed_ports": "ExposedPorts",
    "volumes": "Volumes",
    "args_escaped": "ArgsEscaped",
}
"""Fields of a ContainerConfig that are compared whole; the environment and the labels are compared by name."""


def _config(before: ImageConfig, after: ImageConfig) -> Iterator[ConfigChange]:
    for name, ours, theirs in (
        ("Os", before.os, after.os),
        ("Architecture", before.architecture, after.architecture),
        ("Author", before.author, after.author),
    ):
        if ours != theirs:
            yield ConfigChange(name, ours or None, theirs or None)
    yield from _mapping("Env", _environment(before.config), _environment(after.config))
    yield from _mapping("Label", before.config.labels, after.config.labels)
    for field in fields(before.config):
        if field.name in _DOCKER:
            ours, theirs = getattr(before.config, field.name), getattr(after.config, field.name)
            if ours != theirs:
                yield ConfigChange(_DOCKER[field.name], _shown(ours), _shown(theirs))


def _environment(config: ContainerConfig) -> dict[str, str]:
    return dict(each.partition("=")[::2] for each in config.env)


def _mapping(word: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[ConfigChange]:
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield ConfigChange(f"{word} {name}", before.get(name), after.get(name))


def _shown(value: object) -> str | None:
    """A value as docker's documents have it; None where it is not set."""
    import json

    if value is None or value == "" or value == () or value is False:
        return None
    if isinstance(value, tuple):
        return json.dumps(list(value), ensure_ascii=False)
    if hasattr(value, "to_json"):
        return json.dumps(value.to_json(), ensure_ascii=False)
    return str(value)

"""The notations for what a container sees at a path: `-v`, `--mount`, `--tmpfs`."""

from __future__ import annotations

import posixpath
from enum import StrEnum

from builder.engine.options.units import parse_bytes
from builder.errors import InvalidInput
from runtime.values import dataclass


class MountType(StrEnum):
    """What is mounted."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


@dataclass(frozen=True, slots=True)
class MountRequest:
    """One mount that a container asks for.

    `source` is a host path (BIND), a volume's name ("" for an anonymous one), or an image's reference. `create_source`
    is set for `-v /host/dir:/c`, which makes a missing host directory, where `--mount` refuses. `options` are tmpfs
    options ("size=64m"), `labels` and `driver_options` go to a volume that is made for this mount. `mode` keeps what
    `-v` said after the second colon, since inspect shows it.
    """

    type: MountType
    target: str
    source: str = ""
    readonly: bool = False
    create_source: bool = False
    propagation: str = ""
    recursive: str = ""
    no_copy: bool = False
    subpath: str = ""
    options: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    driver: str = ""
    driver_options: tuple[tuple[str, str], ...] = ()
    mode: str = ""
    legacy: bool = False


_PROPAGATION = ("private", "rprivate", "slave", "rslave", "shared", "rshared")


def parse_volume(spec: str, *, cwd: str) -> MountRequest:
    """`[source:]target[:options]` of `-v`; a relative source (`./data`) is taken from `cwd`. Raises InvalidInput."""
    parts = spec.split(":")
    if not spec or len(parts) > 3 or "" in parts:
        raise InvalidInput(
            f"invalid volume specification: '{spec}'", hint="write it as [host path or name:]target[:ro]"
        )
    if len(parts) == 1:
        source, target, mode = "", parts[0], ""
    else:
        source, target, mode = parts[0], parts[1], parts[2] if len(parts) == 3 else ""
    target = _target(target, spec)
    readonly, propagation, no_copy = _volume_mode(mode, spec)
    if source.startswith(("/", ".", "~")):
        path = posixpath.normpath(posixpath.join(cwd, source))
        return MountRequest(
            MountType.BIND,
            target,
            path,
            readonly=readonly,
            create_source=True,
            propagation=propagation,
            mode=mode,
            legacy=True,
        )
    if "/" in source:
        raise InvalidInput(
            f'create {source}: "{source}" includes invalid characters for a local volume name, '
            'only "[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )
    if propagation:
        raise InvalidInput(f"invalid volume specification: '{spec}': propagation is for host paths only")
    return MountRequest(MountType.VOLUME, target, source, readonly=readonly, no_copy=no_copy, mode=mode, legacy=True)


def _volume_mode(mode: str, spec: str) -> tuple[bool, str, bool]:
    readonly, propagation, no_copy = False, "", False
    seen: set[str] = set()
    for word in mode.split(",") if mode else ():
        kind = "rw" if word in ("ro", "rw") else "label" if word in ("z", "Z") else word
        if word in _PROPAGATION:
            kind, propagation = "propagation", word
        elif word == "nocopy":
            no_copy = True
        elif word not in ("ro", "rw", "z", "Z", "cached", "delegated", "consistent"):
            raise InvalidInput(f"invalid mode: {mode}", hint=f"in the volume specification '{spec}'")
        if kind in seen:
            raise InvalidInput(f"invalid mode: {mode}", hint=f"'{word}' contradicts or repeats another option")
        seen.add(kind)
        readonly = readonly or word == "ro"
    return readonly, propagation, no_copy


def _target(target: str, spec: str) -> str:
    if not target.startswith("/"):
        raise InvalidInput(f"invalid volume specification: '{spec}': invalid mount path: '{target}' must be absolute")
    clean = "/" + posixpath.normpath(target).strip("/")
    if clean == "/":
        raise InvalidInput(f"invalid volume specification: '{spec}': invalid specification: destination can't be '/'")
    return clean


def parse_mount(spec: str, *, cwd: str) -> MountRequest:
    """The comma-separated `type=bind,src=/a,dst=/b,ro` of `--mount`. Raises InvalidInput."""
    import csv

    try:
        (fields,) = csv.reader([spec], strict=True)
    except (ValueError, csv.Error):
        raise InvalidInput(f"invalid argument for --mount: {spec!r} is not a line of comma-separated values") from None
    values: dict[str, str] = {}
    flags: set[str] = set()
    lists: dict[str, list[tuple[str, str]]] = {"volume-label": [], "volume-opt": []}
    for field in fields:
        key, equals, value = field.strip().partition("=")
        key = _MOUNT_KEYS.get(key.lower(), "")
        if not key and not equals:
            raise InvalidInput(f"invalid field '{field}' must be a key=value pair")
        if not key:
            raise InvalidInput(f"unexpected key '{field.partition('=')[0]}' in '{field}'")
        if key in lists:
            name, _, text = value.partition("=")
            lists[key].append((name, text))
        elif key in _MOUNT_SWITCHES:
            if _on(value, field) if equals else True:
                flags.add(key)
        elif not equals:
            raise InvalidInput(f"invalid field '{field}' must be a key=value pair")
        else:
            values[key] = value
    return _mount(values, flags, lists, cwd)


def _mount(values: dict[str, str], flags: set[str], lists: dict[str, list[tuple[str, str]]], cwd: str) -> MountRequest:
    try:
        kind = MountType(values.get("type", "volume").lower())
    except ValueError:
        raise InvalidInput(f"invalid mount type '{values['type']}'", hint="bind, volume, tmpfs or image") from None
    target = values.get("target", "")
    if not target:
        raise InvalidInput("target is required")
    if not target.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{target}' mount path must be absolute")
    source = values.get("source", "")
    if kind is MountType.TMPFS and source:
        raise InvalidInput('invalid mount config for type "tmpfs": field Source must not be specified')
    if kind is MountType.BIND:
        if not source:
            raise InvalidInput("source is required for a bind mount", hint="add source=/path/on/the/host")
        source = posixpath.normpath(posixpath.join(cwd, source)) if source.startswith((".", "/")) else source
        if not source.startswith("/"):
            raise InvalidInput(
                f"invalid mount config for type \"bind\": invalid mount path: '{source}' must be absolute"
            )
    for key in (*values, *flags, *(key for key, pairs in lists.items() if pairs)):
        owner = key.partition("-")[0]
        if owner in ("bind", "volume", "tmpfs", "image") and owner != kind:
            raise InvalidInput(f"cannot mix '{owner}-*' options with mount type '{kind}'")
    propagation = values.get("bind-propagation", "")
    if propagation and propagation not in _PROPAGATION:
        raise InvalidInput(f"invalid propagation option: {propagation}")
    options: tuple[str, ...] = ()
    if "tmpfs-size" in values:
        options += (f"size={parse_bytes(values['tmpfs-size'])}",)
    if "tmpfs-mode" in values:
        try:
            options += (f"mode={int(values['tmpfs-mode'], 8):o}",)
        except ValueError:
            raise InvalidInput(f"invalid value for tmpfs-mode: {values['tmpfs-mode']}") from None
    return MountRequest(
        kind,
        "/" + posixpath.normpath(target).strip("/"),
        source,
        readonly="readonly" in flags,
        propagation=propagation,
        recursive=values.get("bind-recursive", "disabled" if "bind-nonrecursive" in flags else ""),
        no_copy="volume-nocopy" in flags,
        subpath=values.get("volume-subpath", values.get("image-subpath", "")),
        options=options,
        labels=tuple(lists["volume-label"]),
        driver=values.get("volume-driver", ""),
        driver_options=tuple(lists["volume-opt"]),
        create_source="bind-create-src" in flags,
    )


_MOUNT_KEYS = {
    **{key: key for key in ("type", "source", "target", "readonly", "consistency", "image-subpath")},
    **{f"bind-{key}": f"bind-{key}" for key in ("propagation", "recursive", "nonrecursive", "create-src")},
    **{f"volume-{key}": f"volume-{key}" for key in ("subpath", "nocopy", "label", "driver", "opt")},
    **{f"tmpfs-{key}": f"tmpfs-{key}" for key in ("size", "mode")},
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
}
_MOUNT_SWITCHES = ("readonly", "bind-nonrecursive", "bind-create-src", "volume-nocopy")


def _on(value: str, field: str) -> bool:
    if value.lower() in ("1", "t", "true"):
        return True
    if value.lower() in ("0", "f", "false"):
        return False
    raise InvalidInput(f"invalid value for {field.partition('=')[0]}: {value}")


_TMPFS_FLAGS = frozenset(
    {"ro", "rw", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "sync", "async", "dirsync", "remount", "mand"}
    | {"nomand", "atime", "noatime", "diratime", "nodiratime", "bind", "rbind", "unbindable", "runbindable"}
    | {"private", "rprivate", "shared", "rshared", "slave", "rslave", "relatime", "norelatime", "strictatime"}
    | {"nostrictatime", "defaults"}
)
_TMPFS_VALUES = frozenset({"mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "size"})


def parse_tmpfs(spec: str) -> MountRequest:
    """`/path[:options]` of `--tmpfs`; options are those of tmpfs(5). Raises InvalidInput."""
    path, _, mode = spec.partition(":")
    if not path.startswith("/"):
        raise InvalidInput(f"invalid mount path: '{path}' mount path must be absolute")
    target = "/" + posixpath.normpath(path).strip("/")
    if target == "/":
        raise InvalidInput("invalid specification: destination can't be '/'")
    options = tuple(word for word in mode.split(",") if word)
    for word in options:
        key, equals, _ = word.partition("=")
        if word not in _TMPFS_FLAGS and not (equals and key in _TMPFS_VALUES):
            raise InvalidInput(f'invalid tmpfs option ["{word}"]')
    return MountRequest(MountType.TMPFS, target, options=options, readonly="ro" in options, mode=mode, legacy=True)

"""What targets ask for beyond the ordinary, against what --allow grants: privileges, files outside of the project."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from builder.engine.bake.arguments import is_remote
from builder.engine.bake.resolve import Wanted
from builder.engine.bake.target import Entry, Target
from builder.errors import BakeError

_KEYS = ("network.host", "security.insecure", "ssh", "fs", "fs.read", "fs.write", "image", "image.load", "image.push")
_FIELDS = (
    ("secret", "", "src", "fs.read"),
    ("cache-from", "local", "src", "fs.read"),
    ("cache-to", "local", "dest", "fs.write"),
    ("output", "", "dest", "fs.write"),
)
"""Attribute, type of its entry ("" for any), field with a path, and what the path needs."""


def missing(wanted: Wanted, allow: Sequence[str], directory: Path, cwd: Path, *, files: bool) -> tuple[str, ...]:
    """The `--allow` texts that the targets need and *allow* does not have, in alphabetical order.

    What lies below *directory*, where the definition's paths begin, and below *cwd* is always free, and so is what
    --set names. *files*: paths and agents are looked at too. Raises BakeError for an unknown privilege.
    """
    granted: dict[str, list[str]] = {}
    for text in allow:
        key, _, value = text.partition("=")
        if key not in _KEYS:
            raise BakeError(f"unknown entitlement key {key}", hint=f"keys are {', '.join(_KEYS)}")
        granted.setdefault(key, []).append(value)
    asked: set[str] = set()
    for target in wanted.targets:
        if (target.name, "entitlements") not in wanted.overridden:
            asked.update(one for one in target.texts("entitlements") if one not in granted)
        if not files:
            continue
        for key, path in _paths(wanted, target):
            free = (*granted.get(key, ()), *granted.get("fs", ()))
            local = path.removeprefix("cwd://")
            place = _real((cwd if local != path else directory) / local)
            roots = (directory, cwd, *(cwd / one for one in free))
            if "*" not in free and not any(_inside(place, _real(root)) for root in roots):
                asked.add(f"{key}={place}")
        if "ssh" not in granted and any(not one.get("paths") for one in _entries(wanted, target, "ssh")):
            asked.add("ssh")
    return tuple(sorted(asked))


def _entries(wanted: Wanted, target: Target, name: str) -> tuple[Entry, ...]:
    """The entries of an attribute that --set has not given."""
    return () if (target.name, name) in wanted.overridden else target.entries(name)


def _paths(wanted: Wanted, target: Target) -> Iterator[tuple[str, str]]:
    """(key, path) of the local files that a target uses."""
    context = target.text("context")
    contexts = [context, *target.map("contexts").values()]
    if not target.text("dockerfile-inline") and not is_remote(context):
        contexts.append(os.path.join(context, target.text("dockerfile")))
    for path in contexts:
        if not is_remote(path) and not path.startswith("target:") and "://" not in path.removeprefix("cwd://"):
            yield "fs.read", path
    for name, kind, field, key in _FIELDS:
        for entry in _entries(wanted, target, name):
            named = str(entry.get(field, ""))
            if named not in ("", "-") and kind in ("", entry.get("type")):
                yield key, named
    for entry in _entries(wanted, target, "ssh"):
        paths = entry.get("paths", ())
        assert isinstance(paths, tuple)
        yield from (("fs.read", str(one)) for one in paths)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _inside(path: Path, root: Path) -> bool:
    return path == root or root in path.parents

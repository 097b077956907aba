"""What targets ask for beyond the ordinary, against what --allow grants: privileges, files outside of the project."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from builder.engine.bake.arguments import is_remote
from builder.engine.bake.target import Target
from builder.errors import BakeError

_PRIVILEGES = ("network.host", "security.insecure")
_KEYS = (*_PRIVILEGES, "ssh", "fs", "fs.read", "fs.write")


def missing(targets: Iterable[Target], allow: Sequence[str], roots: Sequence[Path], *, files: bool) -> tuple[str, ...]:
    """The `--allow` texts that *targets* need and *allow* does not have, in alphabetical order.

    What lies below *roots* is always free; relative paths are below the first. *files*: paths are looked at too.
    Raises BakeError for an unknown privilege.
    """
    granted: dict[str, list[str]] = {}
    for text in allow:
        key, _, value = text.partition("=")
        if key not in _KEYS:
            raise BakeError(f"unknown entitlement key {key}", hint=f"keys are {', '.join(_KEYS)}")
        granted.setdefault(key, []).append(value)
    wanted: set[str] = set()
    for target in targets:
        wanted.update(f"{one}" for one in target.texts("entitlements") if one not in granted)
        if files:
            wanted.update(_files(target, granted, roots))
    return tuple(sorted(wanted))


def _files(target: Target, granted: dict[str, list[str]], roots: Sequence[Path]) -> Iterable[str]:
    reads = [target.text("context"), *target.map("contexts").values()]
    if not target.text("dockerfile-inline"):
        reads.append(os.path.join(target.text("context"), target.text("dockerfile")))
    reads += [str(one["src"]) for one in target.entries("secret") if one.get("src")]
    writes = [str(one["dest"]) for one in target.entries("output") if one.get("dest") not in (None, "-", "")]
    if target.linked:
        writes = []
    for key, paths in (("fs.read", reads), ("fs.write", writes)):
        free = (*granted.get(key, ()), *granted.get("fs", ()))
        for path in paths:
            local = path.removeprefix("cwd://")
            if is_remote(path) or "://" in local or local.startswith("target:") or "*" in free:
                continue
            place = _real(roots[0] / local)
            if not any(_inside(place, _real(root)) for root in (*roots, *(roots[0] / one for one in free))):
                yield f"{key}={place}"


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _inside(path: Path, root: Path) -> bool:
    return path == root or root in path.parents

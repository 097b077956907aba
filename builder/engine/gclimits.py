"""How much the build cache may take, and who says so.

A number that was given goes before the variable LAMINA_GC_MAX_USED, that before the daemon.json that counts
(`hostfiles`), and that before a tenth of the disk. In the file is one number, `gc.max-used` (which dockerd does not
take: for lamina's own daemon.json), or under `builder.gc` docker's words, old and new:

    enabled                                  false: nothing is collected after builds
    defaultMaxUsedSpace                      the most that may be used
    defaultReservedSpace, defaultKeepStorage what is never collected; without one of the other two also the most
    defaultMinFreeSpace                      what should be free on the disk
    policy                                   a list of rules instead, each with the same three (without "default"), with
                                             filter and keepDuration: it takes only what these are true for
Sizes are bytes, with a binary unit ("20GB") or a percentage of the disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidInput
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.oci.documents import Object
    from builder.store.cacheitems import Select

SHARE = 10
"""Without a setting, the build cache may take one part in so many of the disk."""
VARIABLE = "LAMINA_GC_MAX_USED"


@dataclass(frozen=True, slots=True)
class Limit:
    """One rule; sizes in bytes. `most` None: as much as leaves `free` bytes on the disk.

    `filters` say what alone may go; `source` says who says so.
    """

    most: int | None
    source: str
    reserved: int = 0
    free: int = 0
    filters: tuple[str, ...] = ()

    def budget(self, used: int, disk_free: int) -> int:
        """What may stay now that `used` bytes are, with `disk_free` bytes free on the disk."""
        budget = self.most
        if self.free:
            bound = used + disk_free - self.free
            budget = bound if budget is None else min(budget, bound)
        return max(budget or 0, self.reserved)

    def select(self, now: int) -> Select | None:
        """What may go, None for anything; `now` in ns since the epoch."""
        from builder.engine.options import cachefilters

        return cachefilters.parse(self.filters, now=now)


@dataclass(frozen=True, slots=True)
class Limits:
    """All rules, in their order. `automatic`: also after builds."""

    rules: tuple[Limit, ...]
    automatic: bool = True


def limits(root: Path, environment: Mapping[str, str], given: str = "", *, etc: Path = Path("/etc")) -> Limits:
    """What holds for the store at `root`. Raises InvalidInput, InvalidDocument (naming the place in a file)."""
    from builder.transfer import hostfiles

    status = os.statvfs(root)
    disk = status.f_blocks * status.f_frsize
    for text, source in ((given, "--max-used"), (environment.get(VARIABLE, ""), f"${VARIABLE}")):
        if text:
            try:
                return Limits((Limit(_bytes(text, disk), source),))
            except InvalidInput as err:
                err.message = f"{source}: {err.message}"
                raise
    path = hostfiles.daemon_json(environment, etc)
    found = None
    if path is not None:
        with hostfiles.document(path) as document:
            own = document.object("gc")
            most = None if own is None else _size(own, "max-used", disk)
            if most is not None:
                return Limits((Limit(most, f"gc.max-used of {path}"),))
            builder = document.object("builder")
            gc = builder.object("gc") if builder is not None else None
            found = None if gc is None else _read(gc, str(path), disk)
    if found is not None and found.rules:
        return found
    usual = Limit(disk // SHARE, "a tenth of the disk")
    return Limits((usual,), automatic=found is None or found.automatic)


def disk_free(root: Path) -> int:
    """Bytes that can be written on the disk of the store."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def _read(gc: Object, path: str, disk: int) -> Limits:
    automatic = gc.boolean("enabled") if "enabled" in gc else True
    names = ("defaultMaxUsedSpace", "defaultReservedSpace", "defaultKeepStorage", "defaultMinFreeSpace")
    usual = _limit(gc, names, path, disk)
    rules = []
    for rule in gc.objects("policy"):
        rule.boolean("all")
        limit = _limit(rule, ("maxUsedSpace", "reservedSpace", "keepStorage", "minFreeSpace"), path, disk)
        # What a rule does not say docker takes from the defaults.
        limit = limit or usual or Limit(disk // SHARE, path)
        rules.append(replace(limit, source=f"{rule.where} of {path}", filters=_filters(rule)))
    if not rules and usual is not None:
        rules.append(usual)
    return Limits(tuple(rules), automatic)


def _limit(source: Object, names: tuple[str, str, str, str], path: str, disk: int) -> Limit | None:
    most, reserved, keep, free = (_size(source, name, disk) for name in names)
    reserved = keep if reserved is None else reserved
    if (most, reserved, free) == (None, None, None):
        return None
    told = next(name for name in names if name in source)
    if most is None and not free:
        most = reserved
    return Limit(most, f"{source.where}.{told} of {path}", reserved or 0, free or 0)


def _size(source: Object, key: str, disk: int) -> int | None:
    text = source.string(key)
    if text is None:
        return None
    try:
        return _bytes(text, disk)
    except InvalidInput as err:
        source.fail(key, err.message, hint=err.hint)


def _bytes(text: str, disk: int) -> int:
    """A size, or a percentage of `disk`, in bytes. Raises InvalidInput."""
    from builder.engine.options.units import SIZES, parse_bytes

    number, percent, rest = text.strip().partition("%")
    if percent and not rest and number.isascii() and number.isdigit() and int(number) <= 100:
        return disk * int(number) // 100
    size = -1 if percent else parse_bytes(text)
    if size < 0:
        raise InvalidInput(f"invalid size: '{text}'", hint=f"{SIZES}, or 10% of the disk")
    return size


def _filters(rule: Object) -> tuple[str, ...]:
    from builder.engine.options import cachefilters

    found = rule.strings("filter") or ()
    for position, text in enumerate(found):
        try:
            cachefilters.parse((text,), now=0)
        except InvalidInput as err:
            rule.fail(f"filter[{position}]", err.message)
    duration = rule.string("keepDuration")
    if duration is None:
        return found
    try:
        unused = f"unused-for={duration}s" if duration.isdigit() else f"unused-for={duration}"
        cachefilters.parse((unused,), now=0)
    except InvalidInput as err:
        rule.fail("keepDuration", err.message)
    return (*found, unused)

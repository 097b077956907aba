"""From what files define to the targets that are wanted: --set, inheritance, groups, patterns, links."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from builder.engine.bake import values as v
from builder.engine.bake.definition import Config
from builder.engine.bake.target import (
    ATTRIBUTES,
    Content,
    Entry,
    Group,
    Kind,
    Target,
    content,
    joined,
    merged,
    normal,
    read_entry,
)
from builder.engine.options.units import BOOLEANS
from builder.errors import BakeError
from parser.errors import did_you_mean
from runtime.values import dataclass, replace

_OPTIONS = {rule.option or name: name for name, rule in ATTRIBUTES.items()} | {"annotations": "annotations"}
_UNSETTABLE = ("description", "dockerfile-inline")
_ALWAYS_ADD = ("annotations", "attest", "entitlements")
LINK = "target:"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What --print shows and a build builds. `groups` has those that were walked through, and "default".

    `overridden` has (target, attribute) of what --set says: who says it allows it."""

    groups: tuple[Group, ...]
    targets: tuple[Target, ...]
    overridden: frozenset[tuple[str, str]] = frozenset()

    def target(self, name: str) -> Target:
        """The target called *name*."""
        return next(one for one in self.targets if one.name == name)


def resolve(
    config: Config, names: Sequence[str], overrides: Sequence[str], lookup: Callable[[str], str | None]
) -> Wanted:
    """The targets behind *names* (targets, groups, patterns), each whole, and those that they link to.

    *overrides* are texts of --set; *lookup* gives the environment's value for `--set x.args.NAME`. Raises BakeError.
    """
    resolver = _Resolver(config, _overrides(config, overrides, lookup))
    asked: list[str] = []
    for name in names or ("default",):
        asked += _matching(config, name.replace(".", "_"))
    return resolver.wanted(tuple(dict.fromkeys(asked)))


def _matching(config: Config, pattern: str) -> list[str]:
    if not any(letter in pattern for letter in "*?[]"):
        return [pattern]
    known = (*(group.name for group in config.groups), *(target.name for target in config.targets))
    found = [name for name in known if fnmatchcase(name, pattern)]
    if not found:
        raise BakeError(f'could not find any target matching "{pattern}"', hint=_offer(pattern, known))
    return found


def _offer(name: str, known: Iterable[str]) -> str | None:
    names = [one for one in known if not one.startswith("_")]
    return did_you_mean(name, names) or (f"targets are {', '.join(names)}" if names else None)


class _Resolver:
    def __init__(self, config: Config, overrides: Mapping[str, Sequence[_Override]]) -> None:
        self.config = config
        self.overrides = overrides
        self.targets = {target.name: target for target in config.targets}
        self.groups = {group.name: group for group in config.groups}
        self.done: dict[str, Target] = {}

    def wanted(self, asked: tuple[str, ...]) -> Wanted:
        found: dict[str, Target] = {}
        groups: dict[str, Group] = {}
        for name in asked:
            for target in self.members(name, groups, ()):
                found[target] = self.whole(target)
        direct = [name for name in asked if name != "default" or "default" not in groups]
        if direct:
            before = groups["default"] if "default" in groups else Group("default", ())
            groups["default"] = replace(before, targets=tuple(dict.fromkeys((*before.targets, *direct))))
        if "default" in groups:
            groups["default"] = replace(groups["default"], targets=tuple(sorted(groups["default"].targets)))
        for name in tuple(found):
            self.link(name, found, ())
        named = frozenset((name, one.name) for name, each in self.overrides.items() for one in each)
        return Wanted(tuple(groups.values()), tuple(found.values()), named)

    def members(self, name: str, groups: dict[str, Group], path: tuple[str, ...]) -> list[str]:
        """The targets of a group, through the groups in it, which are added to *groups*; a target is itself."""
        if name in path:
            raise BakeError(f"group {name} contains itself: {' -> '.join((*path, name))}")
        group = self.groups.get(name)
        # a target may have its group's name: within the group it means the target
        if group is None or (path and name == path[-1]):
            return [name]
        groups[name] = group
        made: list[str] = []
        for one in group.targets:
            made += [one] if one == name else self.members(one, groups, (*path, name))
        return list(dict.fromkeys(made))

    def whole(self, name: str) -> Target:
        """A target with what it inherits, what --set changes and docker's defaults."""
        target = self.inherited(name, ())
        made = {"context": ".", **target.attributes}
        if not made.get("dockerfile"):
            made["dockerfile"] = "Dockerfile"
        return Target(name, made)

    def inherited(self, name: str, path: tuple[str, ...]) -> Target:
        if name in self.done:
            return self.done[name]
        if name in path:
            raise BakeError(f"target {name} inherits from itself: {' -> '.join((*path, name))}")
        own = self.targets.get(name)
        if own is None:
            asked = f", which {path[-1]} inherits from" if path else ""
            known = (*self.targets, *self.groups)
            raise BakeError(f"failed to find target {name}{asked}", hint=_offer(name, known))
        made = Target(name)
        for parent in own.inherits:
            made = merged(made, self.inherited(parent, (*path, name)))
        made = merged(made, own)
        for override in self.overrides.get(name, ()):
            made = _apply(made, override)
        self.done[name] = normal(made)
        return self.done[name]

    def link(self, name: str, found: dict[str, Target], path: tuple[str, ...]) -> None:
        """Add the targets that *name* uses as contexts; what they may do, it must be allowed to do too."""
        target = found[name]
        for value in target.map("contexts").values():
            if not value.startswith(LINK):
                continue
            other = value.removeprefix(LINK)
            if other == name:
                raise BakeError(f"target {other} cannot link to itself")
            if other in path:
                raise BakeError(f"infinite loop from {name} to {other}: {' -> '.join((*path, name, other))}")
            if other not in found:
                whole = self.whole(other)
                cached: tuple[Entry, ...] = ({"type": "cacheonly"},)
                found[other] = replace(whole.with_({"output": cached}), linked=True)
            self.link(other, found, (*path, name))
            entitled = (*found[name].texts("entitlements"), *found[other].texts("entitlements"))
            if entitled:
                found[name] = found[name].with_({"entitlements": tuple(dict.fromkeys(entitled))})
            mine, theirs = target.texts("platforms"), found[other].texts("platforms")
            if len(mine) > 1 and len(theirs) > 1 and not set(mine) <= set(theirs):
                raise BakeError(
                    f"target {other} can't be used by {name} because its platforms {' '.join(mine)} "
                    f"are not a subset of {' '.join(theirs)}"
                )


# --set


@dataclass(frozen=True, slots=True)
class _Override:
    """`name` is an attribute, "push" or "load"; `key` the one of a map; `values` all that were given for it."""

    name: str
    key: str
    values: tuple[str, ...]
    adds: bool


def _overrides(
    config: Config, written: Sequence[str], lookup: Callable[[str], str | None]
) -> dict[str, list[_Override]]:
    made: dict[str, list[_Override]] = {}
    for text in written:
        override, names = _read(config, text, lookup)
        for name in names if override is not None else ():
            assert override is not None
            mine = made.setdefault(name, [])
            same = [one for one in mine if (one.name, one.key) == (override.name, override.key)]
            listed = override.name in ATTRIBUTES and ATTRIBUTES[override.name].kind in (Kind.TEXTS, Kind.ENTRIES)
            if same and listed:
                # given twice, a list has both
                mine.remove(same[0])
                mine.append(replace(override, values=(*same[0].values, *override.values)))
            else:
                mine.append(override)
    return made


def _read(config: Config, text: str, lookup: Callable[[str], str | None]) -> tuple[_Override | None, Sequence[str]]:
    """One --set and the targets that it is for; None for an argument that the environment does not have."""
    left, equals, value = text.partition("=")
    adds = left.endswith("+")
    path = left.removesuffix("+")
    pattern, dot, rest = path.partition(".")
    if not dot:
        raise BakeError(f"invalid override key {path}, expected target.name", hint="such as --set app.args.X=1")
    option, _, key = rest.partition(".")
    name = option if option in ("push", "load") else _OPTIONS.get(option, "")
    if not name or name in _UNSETTABLE:
        hint = did_you_mean(option, _OPTIONS)
        raise BakeError(f"unknown key: {option}", hint=hint or f"keys are {', '.join(sorted(_OPTIONS))}")
    if not equals and name != "args":
        raise BakeError(f"invalid override {text}, expected target.name=value")
    is_map = name in ATTRIBUTES and ATTRIBUTES[name].kind is Kind.MAP
    if is_map and not key:
        raise BakeError(f"invalid key {path}, {option} requires name", hint=f"such as {path}.NAME=value")
    if key and not is_map:
        raise BakeError(f"unknown key: {rest}")
    names = [one.name for one in config.targets if one.name == pattern]
    names = names or [one.name for one in config.targets if fnmatchcase(one.name, pattern)]
    if not names:
        known = [one.name for one in config.targets]
        raise BakeError(f"could not find any target matching '{pattern}'", hint=_offer(pattern, known))
    given = value if equals else lookup(key)
    return None if given is None else _Override(name, key, (given,), adds), names


def _apply(target: Target, override: _Override) -> Target:
    name, last = override.name, override.values[-1]
    if name in ("push", "load"):
        return target.with_({"output": _exported(target, name, wanted=_flag(name, last))})
    value: Content | None
    match ATTRIBUTES[name].kind:
        case Kind.TEXT:
            value = last
        case Kind.FLAG:
            value = _flag(name, last)
        case Kind.MAP:
            value = {override.key: last}
        case Kind.TEXTS:
            value = override.values
        case Kind.ENTRIES:
            try:
                value = content(name, override.values)
            except v.Unfit as err:
                raise BakeError(f"invalid value for {name}: {err}") from None
            assert value is not None
    if ATTRIBUTES[name].kind is Kind.MAP or name in _ALWAYS_ADD:
        return target.with_({name: joined(name, target.attributes.get(name), value)})
    before = target.attributes.get(name)
    if override.adds and isinstance(before, tuple) and isinstance(value, tuple):
        value = (*before, *value)
    return target.with_({name: value})


def _flag(name: str, text: str) -> bool:
    if text not in BOOLEANS:
        raise BakeError(f"invalid value {text} for boolean key {name}")
    return BOOLEANS[text]


def _exported(target: Target, name: str, *, wanted: bool) -> tuple[Entry, ...]:
    """The outputs after --push or --load: added where nothing speaks against it, as buildx does."""
    outputs = target.entries("output")
    kinds = {one.get("type") for one in outputs}
    if name == "load":
        there = any(one.get("type") == "docker" and "dest" not in one for one in outputs)
        if not wanted or there or kinds - {"docker", "image", "registry", "oci"}:
            return outputs
        return (*outputs, {"type": "docker"})
    if not wanted:
        kept = (one for one in outputs if one.get("type") != "registry")
        return tuple({**one, "push": "false"} if one.get("type") == "image" else one for one in kept)
    made = tuple({**one, "push": "true"} if one.get("type") == "image" else one for one in outputs)
    added = read_entry("output", "type=image,push=true")
    assert added is not None
    return made if kinds - {"docker"} else (*made, added)

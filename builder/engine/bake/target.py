"""A target: what its attributes may be, how two definitions of it become one, and how it looks in --print.

Everything follows from the table ATTRIBUTES, which is in the order of docker's JSON. An *entry* (of output, cache-from,
secret, …) is what buildx writes as `type=image,push=true`: a map of texts.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum

from builder.engine.bake import values as v
from runtime.values import dataclass, field

Entry = Mapping[str, object]
Content = str | bool | tuple[str, ...] | tuple[Entry, ...] | Mapping[str, str]
"""What an attribute holds, by its kind: TEXT, FLAG, TEXTS, ENTRIES, MAP."""


class Kind(StrEnum):
    """What an attribute holds."""

    TEXT = "string"
    FLAG = "bool"
    TEXTS = "list of strings"
    MAP = "map of strings"
    ENTRIES = "list of entries"


@dataclass(frozen=True, slots=True)
class Rule:
    """`adds`: a later definition adds to an earlier one, where others replace it; maps always merge key by key.

    `option` is how --set calls it."""

    kind: Kind
    adds: bool = False
    option: str = ""


_OUT = Rule(Kind.ENTRIES)
ATTRIBUTES: Mapping[str, Rule] = {
    "description": Rule(Kind.TEXT),
    "annotations": Rule(Kind.TEXTS, adds=True),
    "attest": Rule(Kind.ENTRIES, adds=True),
    "context": Rule(Kind.TEXT),
    "contexts": Rule(Kind.MAP),
    "dockerfile": Rule(Kind.TEXT),
    "dockerfile-inline": Rule(Kind.TEXT),
    "args": Rule(Kind.MAP),
    "labels": Rule(Kind.MAP),
    "tags": Rule(Kind.TEXTS),
    "cache-from": Rule(Kind.ENTRIES, adds=True),
    "cache-to": _OUT,
    "target": Rule(Kind.TEXT),
    "secret": Rule(Kind.ENTRIES, adds=True, option="secrets"),
    "ssh": Rule(Kind.ENTRIES, adds=True),
    "platforms": Rule(Kind.TEXTS, option="platform"),
    "output": _OUT,
    "pull": Rule(Kind.FLAG),
    "no-cache": Rule(Kind.FLAG),
    "network": Rule(Kind.TEXT),
    "no-cache-filter": Rule(Kind.TEXTS, adds=True),
    "shm-size": Rule(Kind.TEXT),
    "ulimits": Rule(Kind.TEXTS, adds=True),
    "call": Rule(Kind.TEXT),
    "entitlements": Rule(Kind.TEXTS, adds=True),
    "extra-hosts": Rule(Kind.MAP),
}
_ESCAPED = ("annotations", "dockerfile-inline", "labels", "args", "extra-hosts")
"""What --print writes so that it can be read again as a bake file."""


@dataclass(frozen=True, slots=True)
class Target:
    """`attributes` has what is set, in any order. `linked`: only other targets want it, as one of their contexts."""

    name: str
    attributes: Mapping[str, Content] = field(default_factory=dict)
    inherits: tuple[str, ...] = ()
    linked: bool = False

    def text(self, name: str) -> str:
        """A TEXT attribute, "" when it is not set."""
        found = self.attributes.get(name, "")
        assert isinstance(found, str)
        return found

    def flag(self, name: str) -> bool:
        """A FLAG attribute."""
        return self.attributes.get(name) is True

    def texts(self, name: str) -> tuple[str, ...]:
        """A TEXTS attribute."""
        found = self.attributes.get(name, ())
        assert isinstance(found, tuple)
        return tuple(one for one in found if isinstance(one, str))

    def map(self, name: str) -> Mapping[str, str]:
        """A MAP attribute."""
        found = self.attributes.get(name, {})
        assert isinstance(found, Mapping)
        return found

    def entries(self, name: str) -> tuple[Entry, ...]:
        """An ENTRIES attribute."""
        found = self.attributes.get(name, ())
        assert isinstance(found, tuple)
        return tuple(one for one in found if isinstance(one, Mapping))

    def with_(self, changes: Mapping[str, Content]) -> Target:
        """The same with other attributes; those not named stay."""
        return Target(self.name, {**self.attributes, **changes}, self.inherits, self.linked)


@dataclass(frozen=True, slots=True)
class Group:
    """Targets and groups under one name."""

    name: str
    targets: tuple[str, ...]
    description: str = ""


def merged(first: Target, later: Target) -> Target:
    """One target of two: *later* adds to *first* or replaces it, as the table says."""
    made = dict(first.attributes)
    for name, value in later.attributes.items():
        made[name] = joined(name, made.get(name), value)
    return Target(first.name, made, (*first.inherits, *later.inherits), first.linked)


def joined(name: str, before: Content | None, value: Content) -> Content:
    """The attribute *name* after *value* came to what was there."""
    rule = ATTRIBUTES[name]
    if before is None:
        return value
    if isinstance(before, Mapping) and isinstance(value, Mapping):
        return {**before, **value}
    if rule.adds and isinstance(before, tuple) and isinstance(value, tuple):
        return (*before, *value)
    return value


def normal(target: Target) -> Target:
    """*target* without what is empty or there twice; the host's network is a privilege that it asks for."""
    made: dict[str, Content] = {}
    for name, value in target.attributes.items():
        match ATTRIBUTES[name].kind:
            case Kind.TEXTS:
                made[name] = tuple(dict.fromkeys(one for one in target.texts(name) if one))
            case Kind.ENTRIES:
                once = {json.dumps(one, sort_keys=True): one for one in reversed(target.entries(name))}
                made[name] = tuple(reversed(once.values()))
            case _:
                made[name] = value
    if target.text("network") == "host":
        made["entitlements"] = tuple(dict.fromkeys((*target.texts("entitlements"), "network.host")))
    if "contexts" in made:
        made["contexts"] = {key: value for key, value in target.map("contexts").items() if value}
    return Target(target.name, made, target.inherits, target.linked)


# entries


def read_entry(name: str, value: v.Value) -> Entry | None:
    """An entry of the attribute *name* from its text or its map; None for an empty text. Raises Unfit."""
    if isinstance(value, Mapping):
        made = {key: _field(one) for key, one in value.items() if one is not None}
        return _complete(name, made, v.text(value.get("type") or ""))
    written = v.text(value)
    if not written:
        return None
    fields = next(csv.reader([written]))
    if "=" not in written:
        return _short(name, written)
    if name == "ssh":
        identity, _, paths = written.partition("=")
        return {"id": identity, "paths": tuple(paths.split(","))}
    pairs: dict[str, object] = {}
    for one in fields:
        key, equals, content = one.partition("=")
        if not equals and name != "attest":
            raise v.Unfit(f"invalid value {one}, expected key=value")
        pairs[key.strip().lower() if name in ("secret", "attest") else key.strip()] = content if equals else "true"
    return _complete(name, pairs, written)


def _field(value: v.Value) -> object:
    return v.texts(value) if isinstance(value, tuple) else v.text(value)


def _short(name: str, written: str) -> Entry:
    """What buildx allows to be written without a key."""
    match name:
        case "output":
            return {"type": "tar", "dest": "-"} if written == "-" else {"type": "local", "dest": written}
        case "cache-from" | "cache-to":
            return {"type": "registry", "ref": written}
        case "ssh":
            return {"id": written}
        case "secret":
            return {"id": written}
    raise v.Unfit(f"invalid value {written}, expected key=value")


def _complete(name: str, pairs: dict[str, object], written: str) -> Entry:
    if name == "secret":
        source = pairs.pop("source", None)
        if source is not None:
            pairs["src"] = source
        kind = pairs.pop("type", "")
        if kind == "env" and "src" in pairs and "env" not in pairs:
            pairs["env"] = pairs.pop("src")
        unknown = set(pairs) - {"id", "src", "env"}
        if unknown:
            raise v.Unfit(f"unexpected key '{min(unknown)}' in '{written}'")
        return {key: pairs[key] for key in ("id", "src", "env") if key in pairs}
    if name == "ssh":
        return {key: pairs[key] for key in ("id", "paths") if key in pairs}
    if not pairs.get("type"):
        raise v.Unfit(f"type is required for {name} '{written}'")
    return {key: pairs[key] for key in sorted(pairs)}


def entry_text(name: str, entry: Entry) -> str:
    """An entry as the option of `build` takes it."""
    if name == "ssh":
        paths = entry.get("paths", ())
        assert isinstance(paths, tuple)
        return str(entry.get("id", "default")) + ("=" + ",".join(paths) if paths else "")
    first = [key for key in ("type", "id") if key in entry]
    pairs = [f"{key}={entry[key]}" for key in (*first, *(key for key in entry if key not in first))]
    return ",".join(f'"{pair}"' if "," in pair else pair for pair in pairs)


# decoding


def content(name: str, value: v.Value) -> Content | None:
    """*value* as the attribute *name* holds it; None when it is not set. Raises Unfit."""
    if value is None:
        return None
    match ATTRIBUTES[name].kind:
        case Kind.TEXT:
            return v.text(value)
        case Kind.FLAG:
            return v.boolean(value)
        case Kind.TEXTS:
            return tuple(v.text(one) for one in v.sequence(value) if one is not None)
        case Kind.MAP:
            return {key: v.text(one) for key, one in v.mapping(value).items() if one is not None}
        case Kind.ENTRIES:
            found = (read_entry(name, one) for one in v.sequence(value) if one is not None)
            return tuple(one for one in found if one is not None)


def as_value(target: Target) -> Mapping[str, Callable[[], v.Value]]:
    """The attributes for expressions that name this target; each made when it is asked for."""
    return {name: lambda value=value: _value(value) for name, value in target.attributes.items()}  # type: ignore[misc]


def _value(found: object) -> v.Value:
    if isinstance(found, tuple):
        return tuple(map(_value, found))
    if isinstance(found, Mapping):
        return {str(key): _value(one) for key, one in found.items()}
    assert isinstance(found, bool | str)
    return found


# printing


def document(groups: Iterable[Group], targets: Iterable[Target]) -> str:
    """The JSON of --print, byte for byte as docker writes it."""
    return go_json(described(groups, {target.name: printed(target) for target in targets}))


def described(groups: Iterable[Group], targets: Mapping[str, object]) -> dict[str, object]:
    """Docker's document of groups and of what is said about each target."""
    named = {group.name: _group(group) for group in sorted(groups, key=lambda one: one.name)}
    return ({"group": named} if named else {}) | {"target": {name: targets[name] for name in sorted(targets)}}


def go_json(document: object) -> str:
    """JSON indented and escaped as Go's encoder does it."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def _group(group: Group) -> dict[str, object]:
    made: dict[str, object] = {"description": group.description} if group.description else {}
    return made | {"targets": list(group.targets)}


def printed(target: Target) -> dict[str, object]:
    """A target as --print shows it."""
    made: dict[str, object] = {}
    for name, rule in ATTRIBUTES.items():
        value = target.attributes.get(name)
        if value is None or value in ((), {}) or (rule.kind is Kind.TEXT and name == "description" and not value):
            continue
        shown = _shown(value)
        made[name] = _escaped(shown) if name in _ESCAPED else shown
    return made


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return [_shown(one) for one in value]
    if isinstance(value, Mapping):
        ordered = value if "id" in value else dict(sorted(value.items()))
        return {key: _shown(one) for key, one in ordered.items()}
    return value


def _escaped(value: object) -> object:
    if isinstance(value, str):
        return value.replace("${", "$${").replace("%{", "%%{")
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    return value

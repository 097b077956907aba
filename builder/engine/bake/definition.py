"""Bake files together: their variables and functions, and the targets and groups that come out of their blocks.

Everything is evaluated when it is first asked for, so the order in the files does not matter and a name that leads back
to itself is found. What comes from outside (environment, clock, chance) is an `Ambient` value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import product

from builder.engine.bake import evaluate as e
from builder.engine.bake import lazy, types, variables
from builder.engine.bake import syntax as s
from builder.engine.bake import values as v
from builder.engine.bake.functions import STANDARD, times
from builder.engine.bake.target import ATTRIBUTES, Group, Target, content, merged
from parser.errors import did_you_mean
from runtime.values import dataclass, field

_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_BLOCKS = {
    "variable": ("default", "type", "description", "sensitive", "nullable"),
    "validation": ("condition", "error_message"),
    "function": ("params", "variadic_params", "result"),
    "group": ("targets", "description"),
    "target": (*ATTRIBUTES, "inherits", "matrix", "name", "policy"),
}


@dataclass(frozen=True, slots=True)
class Ambient:
    """What files may see of the world.

    lookup    the environment (and --var before it): name → value, None when it is not set
    builtins  BAKE_CMD_CONTEXT and BAKE_LOCAL_PLATFORM
    """

    lookup: Callable[[str], str | None]
    builtins: Mapping[str, str]
    now: datetime
    home: str = ""
    uuid: Callable[[], str] = str


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable as --list shows it."""

    name: str
    value: str | None
    description: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class Config:
    """What files define, in the order of their first mention."""

    groups: tuple[Group, ...] = ()
    targets: tuple[Target, ...] = ()
    variables: tuple[Variable, ...] = field(default=())


def define(bodies: Sequence[s.Body], ambient: Ambient, base: Config = Config()) -> Config:
    """The targets and groups of *bodies*, later ones on top of earlier ones and of *base*. Raises BakeError."""
    return _Definitions(bodies, ambient).config(base)


class _Definitions:
    """The names of all files; implements `evaluate.Names`."""

    def __init__(self, bodies: Sequence[s.Body], ambient: Ambient) -> None:
        self.ambient = ambient
        self.attributes: dict[str, s.Attribute] = {}
        self.variables: dict[str, s.Block] = {}
        self.functions: dict[str, s.Block] = {}
        self.blocks: dict[str, list[s.Block]] = {"target": [], "group": []}
        self.values: dict[str, v.Value] = dict(ambient.builtins)
        self.made: dict[str, e.Function] = {}
        self.busy: list[str] = []
        self.scope = e.Scope(self)
        self.instances: dict[str, list[_Instance]] = {}
        self.renamed: dict[str, list[str]] = {}
        for body in bodies:
            self.attributes.update((one.name, one) for one in body.attributes)
            for block in body.blocks:
                self._block(block)

    def _block(self, block: s.Block) -> None:
        if block.kind not in ("variable", "function", "target", "group"):
            known = ("variable", "function", "target", "group")
            hint = did_you_mean(block.kind, known)
            raise block.place.error(f'blocks of type "{block.kind}" are not expected here', hint=hint)
        if len(block.labels) != 1:
            raise block.place.error(f'a {block.kind} block has one name: {block.kind} "name" {{ … }}')
        _check(block)
        if block.kind == "variable":
            self.variables[block.labels[0]] = block
        elif block.kind == "function":
            self.functions[block.labels[0]] = block
        else:
            self.blocks[block.kind].append(block)

    # names

    def variable(self, name: str, place: s.Place) -> v.Value:
        """The value of a variable, a top-level attribute, or `target` and `group` as maps of what files define."""
        if name in self.values:
            return self.values[name]
        if name in self.blocks and name not in self.variables and name not in self.attributes:
            return lazy.Blocks(self, name)
        if name not in self.attributes and name not in self.variables:
            hint = did_you_mean(name, self.known())
            raise place.error(f'unknown variable; there is no variable named "{name}"', hint=hint)
        with self.once(f"variable {name}", place, "variable cycle not allowed for"):
            self.values[name] = self._variable(name)
        return self.values[name]

    def function(self, name: str, place: s.Place) -> e.Function | None:
        """A function of the files, or one that needs to know the world."""
        if name in self.made:
            return self.made[name]
        if name in self.functions and name not in STANDARD:
            self.made[name] = self._function(name)
            return self.made[name]
        ambient: dict[str, e.Function] = {
            "timestamp": lambda: times.shown(self.ambient.now),
            "homedir": lambda: self.ambient.home,
            "uuidv4": lambda: self.ambient.uuid(),
        }
        return ambient.get(name)

    def known(self) -> Iterable[str]:
        """The names of all variables."""
        return (*self.values, *self.variables, *self.attributes)

    def functions_known(self) -> Iterable[str]:
        """The names of all functions that are not in the standard library."""
        return (*self.functions, "timestamp", "homedir", "uuidv4")

    def once(self, what: str, place: s.Place, message: str) -> lazy.Once:
        """Mark *what* as being evaluated; a second time is a cycle."""
        return lazy.Once(self.busy, what, place, message)

    # variables

    def _variable(self, name: str) -> v.Value:
        if name in self.attributes:
            value = e.evaluate(self.attributes[name].value, self.scope)
            return value if name not in self.variables else self._overridden(name, value)
        block = self.variables[name]
        default = block.body.attribute("default")
        value = None if default is None else e.evaluate(default.value, self.scope)
        written = block.body.attribute("type")
        if written is not None and value is not None:
            try:
                value = types.convert(value, types.read(written.value))
            except v.Unfit as err:
                assert default is not None
                raise default.value.place.error(f"invalid default value for variable {name}: {err}") from None
        return self._overridden(name, value)

    def _overridden(self, name: str, value: v.Value) -> v.Value:
        """The value with what the environment says about it, as the type that the variable has."""
        block = self.variables[name]
        written = block.body.attribute("type")
        kind = types.read(written.value) if written is not None else None
        given = self.ambient.lookup(name)
        document = self.ambient.lookup(f"{name}_JSON") if kind is not None and not kind.primitive else None
        if given is None and document is None:
            untyped = kind is None and block.body.attribute("default") is None and name not in self.attributes
            return "" if untyped else value
        try:
            if kind is not None:
                return types.convert(variables.typed(kind, given, document), kind)
            return variables.like(value, given or "")
        except v.Unfit as err:
            raise block.place.error(f"the environment's value of variable {name} does not fit: {err}") from None

    def validate(self) -> None:
        """Check every variable's validation blocks."""
        for name, block in self.variables.items():
            self.variable(name, block.place)
            for one in block.body.blocks:
                condition, message = one.body.attribute("condition"), one.body.attribute("error_message")
                if condition is None or message is None:
                    raise one.place.error("a validation has a condition and an error_message")
                try:
                    holds = v.boolean(e.evaluate(condition.value, self.scope))
                except v.Unfit as err:
                    raise condition.value.place.error(str(err)) from None
                if not holds:
                    text = e.evaluate(message.value, self.scope)
                    raise condition.value.place.error(f"validation failed: {text}")

    # functions

    def _function(self, name: str) -> e.Function:
        block = self.functions[name]
        params, result = block.body.attribute("params"), block.body.attribute("result")
        variadic = block.body.attribute("variadic_params") or block.body.attribute("variadic_param")
        if params is None or result is None:
            missing = "params" if params is None else "result"
            raise block.place.error(f'the argument "{missing}" is required for function {name}')
        if not isinstance(params.value, s.ListOf):
            raise params.value.place.error("params is a list of names: [a, b]")
        names = [_keyword(one) for one in params.value.items]
        rest = _keyword(variadic.value) if variadic is not None else ""

        def call(*arguments: v.Value) -> v.Value:
            if len(arguments) < len(names) or (len(arguments) > len(names) and not rest):
                raise v.Unfit(f"{name} takes {len(names)} arguments, not {len(arguments)}")
            local = dict(zip(names, arguments, strict=False))
            if rest:
                local[rest] = tuple(arguments[len(names) :])
            with self.once(f"function {name}", block.place, "function cycle not allowed for"):
                return e.evaluate(result.value, self.scope.with_local(local))

        return call

    # blocks

    def config(self, base: Config) -> Config:
        """Everything that the files define."""
        self.validate()
        for name in self.attributes:
            self.variable(name, self.attributes[name].place)
        for name, block in self.functions.items():
            self.function(name, block.place)
        for block in self.blocks["target"]:
            for instance in self._expanded(block):
                self.instances.setdefault(instance.name, []).append(instance)
        targets = {target.name: target for target in base.targets}
        for instance in (one for each in self.instances.values() for one in each):
            found = instance.target()
            before = targets.get(found.name)
            targets[found.name] = found if before is None else merged(before, found)
        groups = {group.name: group for group in base.groups}
        for block in self.blocks["group"]:
            groups[block.labels[0]] = self.group(block)
        for old, names in self.renamed.items():
            made = tuple(dict.fromkeys(names))
            if made != (old,):
                groups[old] = Group(old, made)
        return Config(tuple(groups.values()), tuple(targets.values()), tuple(self._listed()))

    def _listed(self) -> Iterator[Variable]:
        for name, block in self.variables.items():
            value = self.values[name]
            description = block.body.attribute("description")
            written = block.body.attribute("type")
            yield Variable(
                name,
                None if value is None else variables.listed(value),
                v.text(e.evaluate(description.value, self.scope)) if description is not None else "",
                str(types.read(written.value)) if written is not None else "",
            )

    def group(self, block: s.Block) -> Group:
        """One group block."""
        name = block.labels[0]
        _check_name(name, block.place)
        values: dict[str, v.Value] = {}
        for one in block.body.attributes:
            with self.once(f"group.{name}.{one.name}", one.place, "reference cycle not allowed for"):
                values[one.name] = e.evaluate(one.value, self.scope)
        if "targets" not in values:
            raise block.place.error(f'the argument "targets" is required for group {name}')
        try:
            return Group(
                name,
                tuple(dict.fromkeys(v.texts(values["targets"]))),
                v.text(values.get("description") or ""),
            )
        except v.Unfit as err:
            raise block.place.error(f"group {name}: {err}") from None

    def _expanded(self, block: s.Block) -> Iterator[_Instance]:
        """The targets of one block: several where it has a matrix."""
        label, body = block.labels[0], block.body
        _check_name(label, block.place)
        matrix, named = body.attribute("matrix"), body.attribute("name")
        if matrix is None:
            if named is not None:
                raise named.place.error("name requires matrix")
            self.renamed.setdefault(label, []).append(label)
            yield _Instance(self, block, label, self.scope)
            return
        seen: set[str] = set()
        for local in _combinations(e.evaluate(matrix.value, self.scope), matrix.value.place):
            scope = self.scope.with_local(local)
            name = label
            if named is not None:
                try:
                    name = v.text(e.evaluate(named.value, scope))
                except v.Unfit as err:
                    raise named.value.place.error(str(err)) from None
                _check_name(name, named.value.place)
            if name in seen:
                hint = None if named is not None else 'give the target a name that differs for each: name = "…"'
                raise (named or matrix).place.error(f'duplicate name "{name}"', hint=hint)
            seen.add(name)
            self.renamed.setdefault(label, []).append(name)
            yield _Instance(self, block, name, scope)


class _Instance:
    """One target of one block, whose attributes are evaluated one by one."""

    def __init__(self, definitions: _Definitions, block: s.Block, name: str, scope: e.Scope) -> None:
        self.definitions = definitions
        self.block = block
        self.name = name
        self.scope = scope
        self.values: dict[str, v.Value] = {}

    def value(self, attribute: s.Attribute) -> v.Value:
        """An attribute as it is written."""
        if attribute.name not in self.values:
            what = f"target.{self.name}.{attribute.name}"
            with self.definitions.once(what, attribute.place, "reference cycle not allowed for"):
                self.values[attribute.name] = e.evaluate(attribute.value, self.scope)
        return self.values[attribute.name]

    def target(self) -> Target:
        """All attributes."""
        made = {}
        inherits: tuple[str, ...] = ()
        for one in self.block.body.attributes:
            if one.name in ("matrix", "name"):
                continue
            if one.name == "policy":
                raise one.place.error("policies are not supported: the target would be built without being checked")
            value = self.value(one)
            try:
                if one.name == "inherits":
                    inherits = v.texts(value)
                    continue
                found = content(one.name, value)
            except v.Unfit as err:
                raise one.value.place.error(f"unsuitable value for {one.name}: {err}") from None
            if found is not None:
                made[one.name] = found
        return Target(self.name, made, inherits)


def _check(block: s.Block) -> None:
    """Refuse attributes and blocks that a block of this kind does not have."""
    known = _BLOCKS[block.kind]
    for one in block.body.attributes:
        if one.name not in known and not (block.kind == "function" and one.name == "variadic_param"):
            hint = did_you_mean(one.name, known)
            raise one.place.error(
                f'unsupported argument; an argument named "{one.name}" is not expected here', hint=hint
            )
    for inner in block.body.blocks:
        if (block.kind, inner.kind) != ("variable", "validation"):
            hint = f"write it as an argument: {inner.kind} = {{ … }}" if inner.kind in known else None
            raise inner.place.error(f'blocks of type "{inner.kind}" are not expected here', hint=hint)
        _check(inner)
    if block.kind == "group" and any(one.name in ("matrix", "name") for one in block.body.attributes):
        raise block.place.error("matrix is not supported for groups")


def _check_name(name: str, place: s.Place) -> None:
    if not _NAME.fullmatch(name):
        raise place.error(f'invalid name "{name}"; only "[a-zA-Z0-9_-]+" are allowed')


def _keyword(written: s.Expression) -> str:
    """A parameter's name; JSON files write it as a text."""
    if isinstance(written, s.Name):
        return written.name
    if isinstance(written, s.Literal) and isinstance(written.value, str):
        return written.value
    raise written.place.error("each parameter name must be an identifier")


def _combinations(matrix: v.Value, place: s.Place) -> Iterator[dict[str, v.Value]]:
    if not isinstance(matrix, Mapping):
        raise place.error("matrix must be a map")
    axes = []
    for name, choices in matrix.items():
        if not isinstance(choices, tuple):
            raise place.error("matrix values must be a list")
        axes.append([(name, one) for one in choices])
    return (dict(one) for one in product(*axes))

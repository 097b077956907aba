"""Expressions to values. Pure: what a name means is asked of a Scope, which evaluates it when it is asked first.

Rules as in the HCL specification: strings convert to numbers and back where one is needed, `==` compares types too, a
conditional evaluates only the branch that counts, and a template that is one lone interpolation keeps its type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Protocol

from builder.engine.bake import functions, types
from builder.engine.bake import syntax as s
from builder.engine.bake import values as v
from builder.errors import BakeError
from parser.errors import did_you_mean

Function = Callable[..., v.Value]


class Names(Protocol):
    """Where variables and functions come from."""

    def variable(self, name: str, place: s.Place) -> v.Value:
        """The value of a variable. Raises BakeError."""
        ...

    def function(self, name: str, place: s.Place) -> Function | None:
        """A function of the file, or None. Raises BakeError."""
        ...

    def known(self) -> Iterable[str]:
        """The names of all variables, for hints."""
        ...

    def functions_known(self) -> Iterable[str]:
        """The names of the file's functions, for hints."""
        ...


class Scope:
    """Local names (of a for, a function, a matrix) on top of *names*."""

    def __init__(self, names: Names, local: Mapping[str, v.Value] | None = None) -> None:
        self.names = names
        self.local = local or {}

    def with_local(self, more: Mapping[str, v.Value]) -> Scope:
        """This scope with more local names."""
        return Scope(self.names, {**self.local, **more})

    def variable(self, name: str, place: s.Place) -> v.Value:
        """The value of a name."""
        return self.local[name] if name in self.local else self.names.variable(name, place)


def evaluate(expression: s.Expression, scope: Scope) -> v.Value:
    """The value of *expression*. Raises BakeError with the place of what went wrong."""
    try:
        return _value(expression, scope)
    except v.Unfit as err:
        raise expression.place.error(str(err)) from None
    except RecursionError:
        raise expression.place.error("this expression calls itself without an end") from None


def _value(expression: s.Expression, scope: Scope) -> v.Value:
    match expression:
        case s.Literal():
            return v.whole(expression.value) if isinstance(expression.value, float) else expression.value
        case s.Template():
            return _template(expression, scope)
        case s.Name():
            return scope.variable(expression.name, expression.place)
        case s.Get():
            return _get(evaluate(expression.of, scope), evaluate(expression.key, scope), expression.key.place)
        case s.Splat():
            return _splat(expression, scope)
        case s.Call():
            return _call(expression, scope)
        case s.Unary():
            of = evaluate(expression.of, scope)
            return not v.boolean(of) if expression.operator == "!" else -v.number(of)
        case s.Binary():
            return _binary(expression, scope)
        case s.Conditional():
            return _conditional(expression, scope)
        case s.ListOf():
            return tuple(evaluate(one, scope) for one in expression.items)
        case s.MapOf():
            return {_key(key, scope): evaluate(one, scope) for key, one in expression.items}
        case s.ForEach():
            return _for(expression, scope)


def _key(written: s.Expression, scope: Scope) -> str:
    key = evaluate(written, scope)
    if key is None:
        raise written.place.error("a map's key cannot be null")
    return _as(v.text, key, written.place)


def _as(convert: Callable[[v.Value], functions.T], value: v.Value, place: s.Place) -> functions.T:
    try:
        return convert(value)
    except v.Unfit as err:
        raise place.error(str(err)) from None


# operators


def _binary(expression: s.Binary, scope: Scope) -> v.Value:
    # Down the left side without recursion: a sum may have thousands of terms.
    chain = [expression]
    while isinstance(chain[-1].left, s.Binary):
        chain.append(chain[-1].left)
    made = evaluate(chain[-1].left, scope)
    for one in reversed(chain):
        try:
            made = _operate(one, made, scope)
        except v.Unfit as err:
            raise one.place.error(str(err)) from None
    return made


def _operate(expression: s.Binary, left: v.Value, scope: Scope) -> v.Value:
    operator, right = expression.operator, evaluate(expression.right, scope)
    match operator:
        case "&&":
            return v.boolean(left) and v.boolean(right)
        case "||":
            return v.boolean(left) or v.boolean(right)
        case "==":
            return v.equal(left, right)
        case "!=":
            return not v.equal(left, right)
    return functions.OPERATORS[operator](v.number(left), v.number(right))


def _conditional(expression: s.Conditional, scope: Scope) -> v.Value:
    condition = _as(v.boolean, evaluate(expression.condition, scope), expression.condition.place)
    chosen, other = (expression.then, expression.otherwise) if condition else (expression.otherwise, expression.then)
    value = evaluate(chosen, scope)
    try:
        rejected = evaluate(other, scope)
    except BakeError:
        return value  # what is not chosen may be wrong
    return v.unified(value, rejected)


def _get(of: v.Value, key: v.Value, place: s.Place) -> v.Value:
    try:
        return functions.element_at(of, key)
    except v.Unfit as err:
        hint = did_you_mean(key, of) if isinstance(of, Mapping) and isinstance(key, str) else None
        raise place.error(str(err), hint=hint) from None


def _splat(expression: s.Splat, scope: Scope) -> v.Value:
    of = evaluate(expression.of, scope)
    if of is None:
        return ()
    items = of if isinstance(of, tuple) else (of,)
    return tuple(evaluate(expression.each, scope.with_local({s.SPLAT: one})) for one in items)


# for


def _pairs(of: v.Value, place: s.Place) -> Iterator[tuple[v.Value, v.Value]]:
    if isinstance(of, Mapping):
        return ((key, of[key]) for key in sorted(of))
    if isinstance(of, tuple):
        return iter(enumerate(of))
    raise place.error(f"a list or map is required to iterate over, not {v.kind(of)}")


def _rounds(key: str, value: str, of: s.Expression, scope: Scope) -> Iterator[Scope]:
    for index, one in _pairs(evaluate(of, scope), of.place):
        yield scope.with_local({key: index, value: one} if key else {value: one})


def _for(expression: s.ForEach, scope: Scope) -> v.Value:
    chosen = _rounds(expression.key, expression.value, expression.of, scope)
    condition = expression.condition
    if condition is not None:
        wanted = condition
        chosen = (one for one in chosen if _as(v.boolean, evaluate(wanted, one), wanted.place))
    if expression.result_key is None:
        return tuple(evaluate(expression.result, one) for one in chosen)
    made: dict[str, v.Value] = {}
    groups: dict[str, list[v.Value]] = {}
    for one in chosen:
        key, value = _key(expression.result_key, one), evaluate(expression.result, one)
        if not expression.grouped and key in made:
            raise expression.result_key.place.error(
                f'two elements have the key "{key}"', hint="put ... after the value to gather them in a list"
            )
        made[key] = value
        groups.setdefault(key, []).append(value)
    return {key: tuple(found) for key, found in groups.items()} if expression.grouped else made


# templates


def _template(expression: s.Template, scope: Scope) -> v.Value:
    parts = expression.parts
    if len(parts) == 1 and not isinstance(parts[0], str | s.If | s.For):
        return evaluate(parts[0], scope)
    return "".join(_texts(parts, scope))


def _texts(parts: tuple[s.Part, ...], scope: Scope) -> Iterator[str]:
    for part in parts:
        match part:
            case str():
                yield part
            case s.If():
                condition = _as(v.boolean, evaluate(part.condition, scope), part.condition.place)
                yield from _texts(part.then if condition else part.otherwise, scope)
            case s.For():
                for one in _rounds(part.key, part.value, part.collection, scope):
                    yield from _texts(part.body, one)
            case _:
                value = evaluate(part, scope)
                if value is None:
                    raise part.place.error("the expression is null, and null cannot be part of a text")
                yield _as(v.text, value, part.place)


# calls


def _call(expression: s.Call, scope: Scope) -> v.Value:
    name, place = expression.name, expression.place
    if name in ("try", "can"):
        return _attempt(expression, scope)
    if name == "convert":
        return _convert(expression, scope)
    function = scope.names.function(name, place) or functions.STANDARD.get(name)
    if function is None:
        known = (*scope.names.functions_known(), *functions.STANDARD, "try", "can", "convert")
        raise place.error(f'there is no function named "{name}"', hint=did_you_mean(name, known))
    arguments = [evaluate(one, scope) for one in expression.arguments]
    if expression.expand:
        last = expression.arguments[-1].place
        arguments += _as(v.sequence, arguments.pop(), last)
    try:
        functions.check_arity(function, name, len(arguments))
        return function(*arguments)
    except v.Unfit as err:
        raise place.error(f'error in function call; call to function "{name}" failed: {err}') from None


def _attempt(expression: s.Call, scope: Scope) -> v.Value:
    """try(a, b, …): the first that has a value; can(a): whether it has one."""
    failed: BakeError | None = None
    for one in expression.arguments:
        try:
            value = evaluate(one, scope)
        except BakeError as err:
            failed = err
        else:
            return True if expression.name == "can" else value
    if expression.name == "can" and failed is not None:
        return False
    reason = f": {failed.message}" if failed is not None else ""
    raise expression.place.error(f"no expression of {expression.name} succeeded{reason}")


def _convert(expression: s.Call, scope: Scope) -> v.Value:
    if len(expression.arguments) != 2:
        raise expression.place.error("convert takes a value and a type")
    value, kind = expression.arguments
    return types.convert(evaluate(value, scope), types.read(kind))

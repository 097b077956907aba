"""Functions on lists, sets and maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product

from builder.engine.bake.values import (
    Unfit,
    Value,
    as_set,
    distinct,
    equal,
    integer,
    kind,
    mapping,
    number,
    sequence,
    text,
    texts,
    whole,
)

_LONGEST = 1024
"""Elements of what `range` makes, as in the library that docker uses."""


def element_at(of: Value, key: Value) -> Value:
    """`of[key]`, `of.key`. Raises Unfit."""
    if isinstance(of, Mapping):
        name = text(key)
        if name not in of:
            raise Unfit(f'there is no element "{name}"')
        return of[name]
    if isinstance(of, tuple):
        try:
            at = integer(key)
        except Unfit:
            raise Unfit(f"a list has no attribute {key!r}; its elements have numbers") from None
        if not 0 <= at < len(of):
            raise Unfit(f"there is no element {at} in a list of {len(of)}")
        return of[at]
    raise Unfit(f"a {kind(of)} has no elements")


def _element(of: Value, index: Value) -> Value:
    items, at = sequence(of), integer(index)
    if not items:
        raise Unfit("cannot use element function with an empty list")
    return items[at % len(items)]


def _hasindex(of: Value, key: Value) -> Value:
    try:
        element_at(of, key)
    except Unfit:
        return False
    return True


def _lookup(of: Value, key: Value, default: Value) -> Value:
    return mapping(of).get(text(key), default)


def _length(of: Value) -> Value:
    if isinstance(of, tuple | Mapping):
        return len(of)
    raise Unfit(f"a list or map is required, not {kind(of)}")


def _keys(of: Value) -> Value:
    return tuple(sorted(mapping(of)))


def _values(of: Value) -> Value:
    found = mapping(of)
    return tuple(found[key] for key in sorted(found))


def _merge(*maps: Value) -> Value:
    made: dict[str, Value] = {}
    for one in maps:
        if one is not None:
            made.update(mapping(one))
    return made


def _zipmap(keys: Value, values: Value) -> Value:
    names, items = texts(keys), sequence(values)
    if len(names) != len(items):
        raise Unfit(f"number of keys ({len(names)}) does not match number of values ({len(items)})")
    return dict(zip(names, items, strict=True))


def _concat(*lists: Value) -> Value:
    return tuple(one for each in lists for one in sequence(each))


def _flatten(of: Value) -> Value:
    return tuple(
        inner for one in sequence(of) for inner in (sequence(_flatten(one)) if isinstance(one, tuple) else (one,))
    )


def _chunklist(of: Value, size: Value) -> Value:
    items, count = sequence(of), integer(size)
    if count < 0:
        raise Unfit("the size argument must be positive")
    if count == 0:
        return (items,) if items else ()
    return tuple(items[at : at + count] for at in range(0, len(items), count))


def _slice(of: Value, start: Value, end: Value) -> Value:
    items, first, last = sequence(of), integer(start), integer(end)
    if not 0 <= first <= last <= len(items):
        raise Unfit(f"elements {first} to {last} are not in a list of {len(items)}")
    return items[first:last]


def _coalesce(*values: Value) -> Value:
    for one in values:
        if one is not None:
            return one
    raise Unfit("no non-null arguments")


def _coalescelist(*lists: Value) -> Value:
    for one in lists:
        if one is not None and sequence(one):
            return one
    raise Unfit("no non-null arguments")


def _compact(of: Value) -> Value:
    return tuple(one for one in sequence(of) if one is not None and text(one))


def _contains(of: Value, value: Value) -> Value:
    return any(equal(one, value) for one in sequence(of))


def _distinct(of: Value) -> Value:
    return distinct(sequence(of))


def _indexof(of: Value, value: Value) -> Value:
    items = sequence(of)
    if not items:
        raise Unfit("cannot search an empty list")
    for at, one in enumerate(items):
        if equal(one, value):
            return at
    raise Unfit("item not found")


def _range(first: Value, second: Value = None, third: Value = None) -> Value:
    start, end = (0, number(first)) if second is None else (number(first), number(second))
    step = number(third) if third is not None else (1 if start <= end else -1)
    if step == 0:
        raise Unfit("step must not be zero")
    if (end - start) * step < 0:
        raise Unfit("the step leads away from the end")
    made: list[Value] = []
    at = start
    while at < end if step > 0 else at > end:
        made.append(at)
        if len(made) > _LONGEST:
            raise Unfit(f"more than {_LONGEST} values were generated; use a larger step or a smaller range")
        at = whole(at + step)
    return tuple(made)


def _reverselist(of: Value) -> Value:
    return tuple(reversed(sequence(of)))


def _sort(of: Value) -> Value:
    return tuple(sorted(texts(of)))


def _setintersection(first: Value, *others: Value) -> Value:
    return as_set(one for one in sequence(first) if all(_contains(other, one) for other in others))


def _setunion(first: Value, *others: Value) -> Value:
    return as_set(one for each in (first, *others) for one in sequence(each))


def _setsubtract(left: Value, right: Value) -> Value:
    return as_set(one for one in sequence(left) if not _contains(right, one))


def _setsymmetricdifference(first: Value, *others: Value) -> Value:
    made = as_set(sequence(first))
    for other in others:
        either = as_set((*made, *sequence(other)))
        made = as_set(one for one in either if _contains(made, one) != _contains(other, one))
    return made


def _setproduct(*sets: Value) -> Value:
    if len(sets) < 2:
        raise Unfit("at least two arguments are required")
    return tuple(product(*map(sequence, sets)))


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "chunklist": _chunklist,
    "coalesce": _coalesce,
    "coalescelist": _coalescelist,
    "compact": _compact,
    "concat": _concat,
    "contains": _contains,
    "distinct": _distinct,
    "element": _element,
    "flatten": _flatten,
    "hasindex": _hasindex,
    "index": element_at,
    "indexof": _indexof,
    "keys": _keys,
    "length": _length,
    "lookup": _lookup,
    "merge": _merge,
    "range": _range,
    "reverselist": _reverselist,
    "sethaselement": _contains,
    "setintersection": _setintersection,
    "setproduct": _setproduct,
    "setsubtract": _setsubtract,
    "setsymmetricdifference": _setsymmetricdifference,
    "setunion": _setunion,
    "slice": _slice,
    "sort": _sort,
    "values": _values,
    "zipmap": _zipmap,
}

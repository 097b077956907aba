"""``dataclass`` and its company with the standard library's meaning, for values that every command waits for.

The standard library compiles seven functions for each class (0.4 ms) and imports ``inspect`` first (10 ms); a command
imports a hundred classes and makes values of twenty. Here a class costs its two types; ``__init__`` is compiled when
the first value is made, and the rest needs no compiling. Type checkers see the original. Only classes with slots; what
the standard library's own ``fields``, ``replace``, ``asdict`` find in them is what they find in its own; ours take both
kinds.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
else:
    from _operator import attrgetter

    _MISSING = object()
    _NAME = "__value_fields__"

    class _Field:
        __slots__ = ("compare", "default", "default_factory", "init", "name", "repr")

        def __init__(self, default, default_factory, init, repr, compare):
            self.name = ""
            self.default, self.default_factory = default, default_factory
            self.init, self.repr, self.compare = init, repr, compare

    def field(*, default=_MISSING, default_factory=_MISSING, init=True, repr=True, compare=True):
        """As the original, but for what nobody here needs of it."""
        return _Field(default, default_factory, init, repr, compare)

    def fields(value):
        """The fields of a class or of a value, in order; each has a ``name``."""
        return getattr(value, _NAME, None) or _original("fields")(value)

    def is_dataclass(value):
        """Whether *value* is such a class or such a value."""
        return hasattr(value, _NAME) or hasattr(value, "__dataclass_fields__")

    def asdict(value):
        """*value* as a dictionary, with all such values in it, in its tuples, lists and mappings, as dictionaries."""
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}

    def _plain(value):
        if is_dataclass(value):
            return asdict(value)
        if isinstance(value, (list, tuple)):
            return value.__class__([_plain(item) for item in value])
        if isinstance(value, dict):
            return {_plain(key): _plain(item) for key, item in value.items()}
        return value

    def replace(value, /, **changes):
        """A copy of *value* with other values for some fields."""
        if not hasattr(value, _NAME):
            return _original("replace")(value, **changes)
        for each in getattr(value, _NAME):
            if each.init and each.name not in changes:
                changes[each.name] = getattr(value, each.name)
        return value.__class__(**changes)

    def _original(name):
        import dataclasses

        return getattr(dataclasses, name)

    def dataclass(*, slots, frozen=False, eq=True, order=False):
        """As the original; *slots* is always True."""
        assert slots
        return lambda cls: _make(cls, frozen=frozen, eq=eq, order=order)

    class _OriginalFields:
        """``__dataclass_fields__``, for the standard library's functions: made when they look."""

        def __get__(self, value, cls):
            import dataclasses

            found = {}
            for each in getattr(cls, _NAME):
                original = dataclasses.field(init=each.init, repr=each.repr, compare=each.compare)
                for name in ("default", "default_factory"):
                    given = getattr(each, name)
                    setattr(original, name, dataclasses.MISSING if given is _MISSING else given)
                original.name, original._field_type = each.name, dataclasses._FIELD
                found[each.name] = original
            cls.__dataclass_fields__ = found
            return found

    def _make(cls, *, frozen, eq, order):
        known = {}
        for base in cls.__mro__[:0:-1]:
            known.update((each.name, each) for each in base.__dict__.get(_NAME, ()))
        namespace = dict(cls.__dict__)
        own = []
        for name, kind in namespace.get("__annotations__", {}).items():
            if kind.startswith("ClassVar"):
                continue
            given = namespace.pop(name, _MISSING)
            made = given if given.__class__ is _Field else field(default=given)
            made.name = name
            if name not in known:
                own.append(name)
            known[name] = made
        for name in ("__dict__", "__weakref__"):
            namespace.pop(name, None)
        every = tuple(known.values())
        namespace["__slots__"] = tuple(own)
        namespace[_NAME] = every
        namespace["__dataclass_fields__"] = _OriginalFields()
        namespace.setdefault("__match_args__", tuple(each.name for each in every if each.init))
        made = None

        def __init__(self, *args, **kwargs):
            made.__init__ = _compiled(made)
            made.__init__(self, *args, **kwargs)

        namespace.setdefault("__init__", __init__)
        namespace.setdefault("__repr__", _repr)
        compared = [each.name for each in every if each.compare]
        key = attrgetter(*compared) if compared else lambda value: ()
        if eq:
            namespace.setdefault("__eq__", _comparison(key, "__eq__"))
            if frozen:
                namespace.setdefault("__hash__", lambda self: hash(key(self)))
            else:
                namespace.setdefault("__hash__", None)
        if order:
            for name in ("__lt__", "__le__", "__gt__", "__ge__"):
                namespace.setdefault(name, _comparison(key, name))
        if frozen:
            namespace.setdefault("__setattr__", _refuse)
            namespace.setdefault("__delattr__", _refuse)
            namespace.setdefault("__getstate__", _state)
            namespace.setdefault("__setstate__", _set_state)
        made = cls.__class__(cls.__name__, cls.__bases__, namespace)
        made.__qualname__ = cls.__qualname__
        return made

    def _compiled(cls):
        """The ``__init__`` of *cls*."""
        scope = {"_missing": _MISSING}
        parameters, body = [], []
        for each in getattr(cls, _NAME):
            name = each.name
            scope[f"_set_{name}"] = getattr(cls, name).__set__
            value = name
            if each.default_factory is not _MISSING:
                scope[f"_default_{name}"] = each.default_factory
                value = f"_default_{name}() if {name} is _missing else {name}"
                parameters.append(f"{name}=_missing")
            elif each.default is not _MISSING:
                scope[f"_default_{name}"] = each.default
                parameters.append(f"{name}=_default_{name}")
            else:
                parameters.append(name)
            if not each.init:
                parameter = parameters.pop()
                if "=" not in parameter:
                    continue
                value = f"_default_{name}" + "()" * (each.default_factory is not _MISSING)
            body.append(f" _set_{name}(self, {value})")
        if hasattr(cls, "__post_init__"):
            body.append(" self.__post_init__()")
        exec(f"def __init__(self, {', '.join(parameters)}):\n" + ("\n".join(body) or " pass"), scope)
        made = scope["__init__"]
        made.__qualname__ = f"{cls.__qualname__}.__init__"
        return made

    def _repr(self):
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in getattr(self, _NAME) if each.repr)
        return f"{self.__class__.__qualname__}({', '.join(shown)})"

    def _comparison(key, name):
        operation = getattr(tuple, name)

        def compare(self, other):
            if other.__class__ is not self.__class__:
                return NotImplemented
            return operation((key(self),), (key(other),))

        return compare

    def _refuse(self, name, *value):
        from dataclasses import FrozenInstanceError

        raise FrozenInstanceError(f"cannot {'assign to' if value else 'delete'} field {name!r}")

    def _state(self):
        return [getattr(self, each.name) for each in getattr(self, _NAME)]

    def _set_state(self, state):
        for each, value in zip(getattr(self, _NAME), state, strict=True):
            object.__setattr__(self, each.name, value)


__all__ = ("asdict", "dataclass", "field", "fields", "is_dataclass", "replace")

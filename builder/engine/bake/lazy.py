"""What expressions see of other blocks (`target.app.args`): maps whose values are evaluated when they are asked for.

`Once` finds what is asked for while it is being evaluated: a cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

from builder.engine.bake import syntax as s
from builder.engine.bake import values as v
from builder.engine.bake.target import Group


class Instance(Protocol):
    """One target of one block."""

    block: s.Block

    def value(self, attribute: s.Attribute) -> v.Value:
        """An attribute of it. Raises BakeError."""
        ...


class Definitions(Protocol):
    """All blocks of the files."""

    @property
    def instances(self) -> Mapping[str, Sequence[Instance]]:
        """The targets by name."""
        ...

    @property
    def blocks(self) -> Mapping[str, Sequence[s.Block]]:
        """The blocks by kind."""
        ...

    def group(self, block: s.Block) -> Group:
        """A group. Raises BakeError."""
        ...


class Blocks(Mapping[str, v.Value]):
    """`target` or `group` as an expression sees it: name → attributes."""

    def __init__(self, definitions: Definitions, kind: str) -> None:
        self._definitions = definitions
        self._kind = kind

    def _names(self) -> list[str]:
        if self._kind == "target":
            return list(self._definitions.instances)
        return [block.labels[0] for block in self._definitions.blocks["group"]]

    def __getitem__(self, name: str) -> v.Value:
        if name not in self._names():
            raise KeyError(name)
        return Attributes(self._definitions, self._kind, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())


class Attributes(Mapping[str, v.Value]):
    """One target or group as an expression sees it: attribute → value, of the last block that sets it."""

    def __init__(self, definitions: Definitions, kind: str, name: str) -> None:
        self._definitions = definitions
        self._set: dict[str, Callable[[], v.Value]] = {}
        if kind == "target":
            for instance in definitions.instances[name]:
                for one in instance.block.body.attributes:
                    self._set[one.name] = lambda instance=instance, one=one: instance.value(one)  # type: ignore[misc]
            self._set.setdefault("name", lambda: name)
        else:
            for block in definitions.blocks["group"]:
                if block.labels[0] == name:
                    self._set["targets"] = lambda block=block: definitions.group(block).targets  # type: ignore[misc]

    def __getitem__(self, name: str) -> v.Value:
        return self._set[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._set)

    def __len__(self) -> int:
        return len(self._set)


class Once:
    """Guards the evaluation of one thing against itself."""

    def __init__(self, busy: list[str], what: str, place: s.Place, message: str) -> None:
        self._busy, self._what, self._place, self._message = busy, what, place, message

    def __enter__(self) -> None:
        if self._what in self._busy:
            around = self._busy[self._busy.index(self._what) :]
            path = " -> ".join(one.rpartition(" ")[2] for one in (*around, self._what))
            raise self._place.error(f"{self._message} {self._what.rpartition(' ')[2]} ({path})")
        self._busy.append(self._what)

    def __exit__(self, *exception: object) -> None:
        self._busy.remove(self._what)

"""Our dataclass against the standard library's: whatever one does with a value, both give the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any, ClassVar

import pytest

from runtime import values


def both(**options: Any) -> list[Any]:
    """The same class made by either."""
    made = []
    for module in (dataclasses, values):

        class Point:
            x: int
            y: int = 2
            names: tuple[str, ...] = ()
            seen: list[int] = module.field(default_factory=list, compare=False)
            secret: str = module.field(default="s", repr=False)
            total: int = module.field(init=False, default=0)
            kind: ClassVar[str] = "point"

            @property
            def double(self) -> int:
                return 2 * self.x

        made.append(module.dataclass(slots=True, **options)(Point))
    return made


def outcome(work: Any) -> Any:
    try:
        return work()
    except Exception as err:  # noqa: BLE001
        return type(err)


USES = {
    "repr": lambda kind: repr(kind(1, names=("a",))).replace("<locals>.", ""),
    "equal": lambda kind: (kind(1) == kind(1), kind(1) == kind(2), kind(1, seen=[1]) == kind(1), kind(1) == 1),
    "hash": lambda kind: len({kind(1), kind(1), kind(2)}),
    "order": lambda kind: (kind(1) < kind(2), sorted([kind(3), kind(1)]) == [kind(1), kind(3)], kind(1) >= kind(1)),
    "missing": lambda kind: kind(),
    "unknown": lambda kind: kind(1, z=3),
    "init": lambda kind: kind(1, total=3),
    "default": lambda kind: (kind(1).y, kind(1).seen, kind(1).seen is kind(1).seen, kind(1).total, kind.kind),
    "property": lambda kind: kind(4).double,
    "set": lambda kind: setattr(kind(1), "x", 2),
    "delete": lambda kind: delattr(kind(1), "x"),
    "no dictionary": lambda kind: kind(1).__dict__,
    "match": lambda kind: kind.__match_args__,
    "copy": lambda kind: copy.copy(kind(1, 5)) == kind(1, 5),
    "deep copy": lambda kind: copy.deepcopy(kind(1, 5, ("a",))) == kind(1, 5, ("a",)),
    "state": lambda kind: len(kind(1).__reduce_ex__(4)),
    "is": lambda kind: (dataclasses.is_dataclass(kind), dataclasses.is_dataclass(kind(1))),
    "fields": lambda kind: [(each.name, each.init, each.repr, each.compare) for each in dataclasses.fields(kind)],
    "replace": lambda kind: dataclasses.replace(kind(1, 3), x=5) == kind(5, 3),
    "as a dictionary": lambda kind: dataclasses.asdict(kind(1, names=("a",))),
}


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("options", [{}, {"frozen": True}, {"eq": False}, {"frozen": True, "order": True}], ids=str)
def test_both_do_the_same(use: str, options: dict[str, bool]) -> None:
    theirs, ours = (outcome(lambda kind=kind: USES[use](kind)) for kind in both(**options))
    assert ours == theirs


@values.dataclass(frozen=True, slots=True)
class Base:
    a: int
    b: tuple[int, ...] = ()


@values.dataclass(frozen=True, slots=True)
class Derived(Base):
    b: tuple[int, ...] = (1,)
    c: Base | None = None

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError(self.a)


def test_a_class_has_the_fields_of_those_above_it() -> None:
    value = Derived(1, c=Base(2))
    assert repr(value) == "Derived(a=1, b=(1,), c=Base(a=2, b=()))"
    assert value != Base(1, (1,))
    with pytest.raises(ValueError):
        Derived(-1)
    assert pickle.loads(pickle.dumps(value)) == value


def test_a_value_takes_no_new_attribute() -> None:
    with pytest.raises(AttributeError):
        Base(1).other = 2  # type: ignore[attr-defined]


def test_our_functions_do_what_the_originals_do() -> None:
    value = Derived(1, c=Base(2))
    assert values.replace(value, a=3) == dataclasses.replace(value, a=3) == Derived(3, c=Base(2))
    assert values.asdict(value) == dataclasses.asdict(value)
    assert [each.name for each in values.fields(value)] == [each.name for each in dataclasses.fields(value)]
    assert values.is_dataclass(Derived) and values.is_dataclass(value) and not values.is_dataclass(1)
    with pytest.raises(TypeError):
        values.replace(value, z=1)


def test_our_functions_take_what_the_original_made() -> None:
    theirs, _ = both(frozen=True)
    value = theirs(1)
    assert values.replace(value, x=2) == theirs(2)
    assert values.asdict(value) == dataclasses.asdict(value)
    assert values.fields(theirs) == dataclasses.fields(theirs)
    assert values.is_dataclass(value)

"""The parsed form as bytes, for a store to keep: loading it needs no lark.

Values become nested lists ([class number, field, …]) and tuples in Python's marshal form, which loads ten times faster
than anything that is more general. The bytes are only for the store that wrote them: `parser.VERSION` and this
module's own header say whether they can still be read.
"""

from __future__ import annotations

import marshal
import sys
from typing import Any

from parser import instructions as ast
from parser.instructions import Directives, Dockerfile
from parser.source import Position, Source, Span
from parser.syntax import Flag, Heredoc, Parts, Statement

__all__ = ["dumps", "loads"]

# The order is part of the format: a change here is a new parser.VERSION.
_CLASSES: tuple[type[Any], ...] = (
    Position,
    Span,
    Flag,
    Heredoc,
    Parts,
    Statement,
    Directives,
    ast.ShellForm,
    ast.ExecForm,
    ast.Pair,
    ast.Argument,
    ast.From,
    ast.Run,
    ast.Cmd,
    ast.Label,
    ast.Maintainer,
    ast.Expose,
    ast.Env,
    ast.Add,
    ast.Copy,
    ast.Entrypoint,
    ast.Volume,
    ast.User,
    ast.Workdir,
    ast.Arg,
    ast.Onbuild,
    ast.Stopsignal,
    ast.Healthcheck,
    ast.Shell,
)
_NUMBERS = {kind: number for number, kind in enumerate(_CLASSES)}
_HEADER = f"{sys.version_info[0]}.{sys.version_info[1]}".encode() + b"\n"
"""marshal promises nothing between versions of Python."""


def dumps(dockerfile: Dockerfile) -> bytes:
    """Everything of `dockerfile` except the text of its source, as bytes."""
    return _HEADER + marshal.dumps((_flat(dockerfile.directives), _flat(dockerfile.instructions)))


def loads(data: bytes, source: Source) -> Dockerfile:
    """What `dumps` was given. `source` is the text that it was parsed from. Raises ValueError for other bytes."""
    if not data.startswith(_HEADER):
        raise ValueError("written by another version of Python")
    try:
        directives, instructions = marshal.loads(data[len(_HEADER) :])
        return Dockerfile(source, _value(directives), _value(instructions))
    except (EOFError, TypeError, IndexError, AttributeError) as err:
        raise ValueError("these bytes are no parsed Dockerfile") from err


def _flat(value: object) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_flat, value))
    number = _NUMBERS.get(type(value))
    if number is None:
        return value
    kind: Any = type(value)
    return [number, *(_flat(getattr(value, name)) for name in kind.__match_args__)]


def _value(flat: Any) -> Any:
    kind = type(flat)
    if kind is tuple:
        return tuple(map(_value, flat))
    if kind is list:
        return _CLASSES[flat[0]](*map(_value, flat[1:]))
    return flat

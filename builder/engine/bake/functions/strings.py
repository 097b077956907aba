"""Functions on strings. A character is what a reader sees as one: a letter with its combining marks."""

from __future__ import annotations

import posixpath
import unicodedata
from collections.abc import Callable, Mapping

from builder.engine.bake.values import Unfit, Value, integer, text, texts

_JOINER = "\u200d"


def _characters(value: str) -> list[str]:
    made: list[str] = []
    for letter in value:
        extends = unicodedata.category(letter) in ("Mn", "Me", "Mc") or letter == _JOINER
        windows_line_end = bool(made) and made[-1] == "\r" and letter == "\n"
        if made and (extends or made[-1].endswith(_JOINER) or windows_line_end):
            made[-1] += letter
        else:
            made.append(letter)
    return made


def _basename(path: Value) -> Value:
    cleaned = text(path).rstrip("/")
    if not cleaned:
        return "/" if text(path) else "."
    return posixpath.basename(cleaned)


def _dirname(path: Value) -> Value:
    head = posixpath.dirname(text(path))
    return posixpath.normpath(head) if head else "."


def _sanitize(name: Value) -> Value:
    return "".join(one if one.isascii() and (one.isalnum() or one in "_-") else "_" for one in text(name))


def _title(value: Value) -> Value:
    made, before = [], " "
    for letter in text(value):
        starts = not (before.isalnum() or before in "_'")
        made.append(letter.title() if starts else letter)
        before = letter
    return "".join(made)


def _indent(spaces: Value, value: Value) -> Value:
    return text(value).replace("\n", "\n" + " " * _amount(spaces))


def _amount(value: Value) -> int:
    found = integer(value)
    if not 0 <= found <= 65536:
        raise Unfit(f"{found} is not a sensible number of characters")
    return found


def _substr(value: Value, offset: Value, length: Value) -> Value:
    characters, start, count = _characters(text(value)), integer(offset), integer(length)
    if start < 0:
        start = max(len(characters) + start, 0)
    return "".join(characters[start:] if count < 0 else characters[start : start + count])


def _join(separator: Value, first: Value, *others: Value) -> Value:
    return text(separator).join(one for each in (first, *others) for one in texts(each))


def _split(separator: Value, value: Value) -> Value:
    by, whole = text(separator), text(value)
    if not by:
        return tuple(_characters(whole))
    return tuple(whole.split(by))


def _trim(value: Value, letters: Value) -> Value:
    # an empty set of letters takes nothing away, where Python would take white space
    return text(value).strip(text(letters)) if text(letters) else text(value)


def _chomp(value: Value) -> Value:
    return text(value).rstrip("\r\n")


def _byteslen(value: Value) -> Value:
    return len(text(value).encode())


def _bytesslice(value: Value, offset: Value, length: Value) -> Value:
    data, start, count = text(value).encode(), integer(offset), integer(length)
    if start < 0 or count < 0 or start + count > len(data):
        raise Unfit(f"bytes {start} to {start + count} are outside of {len(data)} bytes")
    return data[start : start + count].decode("utf-8", "replace")


def _strlen(value: Value) -> Value:
    return len(_characters(text(value)))


def _reverse(value: Value) -> Value:
    return "".join(reversed(_characters(text(value))))


def _replace(value: Value, old: Value, new: Value) -> Value:
    return text(value).replace(text(old), text(new))


def _lower(value: Value) -> Value:
    return text(value).lower()


def _upper(value: Value) -> Value:
    return text(value).upper()


def _trimprefix(value: Value, prefix: Value) -> Value:
    return text(value).removeprefix(text(prefix))


def _trimsuffix(value: Value, suffix: Value) -> Value:
    return text(value).removesuffix(text(suffix))


def _trimspace(value: Value) -> Value:
    return text(value).strip()


FUNCTIONS: Mapping[str, Callable[..., Value]] = {
    "basename": _basename,
    "byteslen": _byteslen,
    "bytesslice": _bytesslice,
    "chomp": _chomp,
    "dirname": _dirname,
    "indent": _indent,
    "join": _join,
    "lower": _lower,
    "replace": _replace,
    "reverse": _reverse,
    "sanitize": _sanitize,
    "split": _split,
    "strlen": _strlen,
    "substr": _substr,
    "title": _title,
    "trim": _trim,
    "trimprefix": _trimprefix,
    "trimspace": _trimspace,
    "trimsuffix": _trimsuffix,
    "upper": _upper,
}

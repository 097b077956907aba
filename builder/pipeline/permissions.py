"""``--chown`` and ``--chmod``: what they mean, with names looked up in the image they are for.

Nothing of the host is asked: names come from /etc/passwd and /etc/group of the image, read without leaving it, and only
so much of them as an honest file has.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import TypeAlias

from builder.errors import BuildError
from builder.pipeline.trees import open_file, resolve

MAX_ID = (1 << 32) - 2
"""uid_t's last value means "unchanged" to chown."""
MAX_FILE = 16 << 20
"""Bytes of /etc/passwd or /etc/group that are read."""

Owner: TypeAlias = "tuple[int, int]"
Chmod: TypeAlias = "Callable[[int], int]"
"""A mode with its file type → the permissions (0..0o7777)."""


def numeric_owner(chown: str) -> Owner | None:
    """The owner when *chown* has no names in it ("12", "12:34"); else None. Raises BuildError: an id out of range."""
    user, _, group = chown.partition(":")
    if not user.isdecimal() or (group and not group.isdecimal()):
        return None
    return _id(user, chown), _id(group or user, chown)


def owner(chown: str, root: int | None) -> Owner:
    """What *chown* ("user", "user:group", names or numbers) means in the file system *root*.

    A name without a group brings its primary group, a number without a group is its own group.
    Raises: BuildError for a name that the image does not know, or an id that cannot be.
    """
    user, _, group = chown.partition(":")
    if user.isdecimal() or not user:
        uid = _id(user or "0", chown)
        gid = uid
    else:
        uid, gid = _user(user, root)
    if group:
        gid = _id(group, chown) if group.isdecimal() else _group(group, root)
    return uid, gid


def chmod(text: str) -> Chmod:
    """The function that *text* ("755", "u=rwX,go-w") stands for. Raises BuildError when it is neither form."""
    if re.fullmatch("[0-7]+", text) and int(text, 8) <= 0o7777:
        mode = int(text, 8)
        return lambda _: mode
    clauses = [re.fullmatch("([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)", clause) for clause in text.split(",")]
    if not all(clauses):
        raise BuildError(
            f"invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777",
            hint="or symbolic, as chmod(1) takes it: u=rwX,go-w",
        )
    steps = [
        (clause[1], operation[0], operation[1:])
        for clause in clauses
        if clause is not None
        for operation in re.findall("[-+=][rwxXstugo]*", clause[2])
    ]

    def apply(mode: int) -> int:
        is_dir, bits = stat.S_ISDIR(mode), stat.S_IMODE(mode)
        for who, operator, what in steps:
            bits = _symbolic(bits, who, operator, what, is_dir=is_dir)
        return bits

    return apply


def new_directory_mode(text: str | None) -> int:
    """What a directory gets that COPY makes on the way to its destination: an octal ``--chmod``, otherwise 0755."""
    return int(text, 8) & 0o777 if text is not None and re.fullmatch("[0-7]+", text) else 0o755


_SHIFT = {"u": 6, "g": 3, "o": 0}
_UMASK = 0o022


def _symbolic(bits: int, who: str, operator: str, what: str, *, is_dir: bool) -> int:
    classes = "ugo" if not who or "a" in who else who
    change = 0
    for letter in what:
        if letter in _SHIFT:
            value = bits >> _SHIFT[letter] & 7
        elif letter == "X":
            value = 1 if is_dir or bits & 0o111 else 0
        else:
            value = {"r": 4, "w": 2, "x": 1}.get(letter, 0)
        for one in classes:
            change |= value << _SHIFT[one]
        if letter == "s":
            change |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
        elif letter == "t" and "o" in classes:
            change |= 0o1000
    if not who:
        # Without a class the umask holds, as in chmod(1), but "=" takes away everything.
        change &= ~_UMASK
    if operator == "+":
        return bits | change
    if operator == "-":
        return bits & ~change
    mask = sum(7 << _SHIFT[one] for one in set(classes)) | (0o1000 if "o" in classes else 0)
    if not is_dir:
        # "=" keeps setuid and setgid of a directory, as GNU chmod does.
        mask |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    return (bits & ~mask) | change


def _user(name: str, root: int | None) -> Owner:
    for fields in _records(root, "/etc/passwd"):
        if len(fields) >= 4 and fields[0] == name and fields[2].isdecimal() and fields[3].isdecimal():
            return _id(fields[2], name), _id(fields[3], name)
    raise BuildError(
        f"unable to convert uid/gid chown string to host mapping: can't find uid for user {name}: no such user: {name}",
        hint="make the user in an earlier RUN, or give numbers",
    )


def _group(name: str, root: int | None) -> int:
    for fields in _records(root, "/etc/group"):
        if len(fields) >= 3 and fields[0] == name and fields[2].isdecimal():
            return _id(fields[2], name)
    raise BuildError(
        f"unable to convert uid/gid chown string to host mapping: can't find gid for group {name}: "
        f"no such group: {name}",
        hint="make the group in an earlier RUN, or give numbers",
    )


def _records(root: int | None, path: str) -> Iterator[list[str]]:
    """The lines of an account file, split at colons; none when there is no such file."""
    if root is None:
        return
    try:
        real = resolve(root, path)
        if real.status is None:
            return
        fd = open_file(root, real.path)
    except NotADirectoryError:
        return
    except OSError as err:
        raise BuildError(f"cannot read {path} of the image: {err.strerror}") from err
    with os.fdopen(fd, "rb") as file:
        data = file.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise BuildError(f"{path} of the image is larger than {MAX_FILE >> 20} MiB")
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        yield line.strip().split(":")


def _id(text: str, chown: str) -> int:
    if len(text) > 10 or int(text) > MAX_ID:
        raise BuildError(f'invalid user or group id in "{chown}": ids go from 0 to {MAX_ID}')
    return int(text)

"""Who a container's process is: docker's rules for "user[:group]", with the image's own passwd and group files.

Called by init and enter after the root was changed. The files are read with a bound and only if they are plain files,
since the image decides what they are (CVE-2024-9676, CVE-2026-47262).
"""

from __future__ import annotations

import errno

from runtime import targets
from runtime.errors import UserNotFound

MAX_ID = 2147483647
MAX_FILE = 4 << 20


class Identity:
    """*uid*, *gid*, *groups* (all of them, the first is *gid*) and *home*."""

    __slots__ = ("gid", "groups", "home", "uid")

    def __init__(self, uid: int, gid: int, groups: tuple[int, ...], home: str) -> None:
        self.uid, self.gid, self.groups, self.home = uid, gid, groups, home


def resolve(root: int, user: str, additional_groups: tuple[str, ...] = ()) -> Identity:
    """The identity that *user* ("", name, uid, each with :group) means in the root *root*. Raises UserNotFound."""
    name, _, group = user.partition(":")
    number = _number(name, user) if name else 0
    passwd = group_lines = None
    uid, gid, home, matched = 0, 0, "/", ""
    passwd = _read(root, "/etc/passwd", needed=bool(name) and number is None)
    found = False
    for fields in _records(passwd, 6):
        ident = _plain_number(fields[2])
        if ident is None or ident > MAX_ID:
            continue
        if (ident == number) if number is not None else (fields[0] == name):
            uid, gid, home, matched, found = ident, _plain_number(fields[3]) or 0, fields[5] or "/", fields[0], True
            break
    if not found and name:
        if number is None:
            raise UserNotFound(
                f"unable to find user {name}: no matching entries in passwd file",
                hint="create the user in the image first, or give a number",
            )
        uid = number
    if gid > MAX_ID:
        raise UserNotFound(f"uids and gids must be in range 0-{MAX_ID}")
    extra: list[int] = []
    if group:
        gid = _group(root, group, user)
    elif matched:
        group_lines = _read(root, "/etc/group", needed=False)
        for fields in _records(group_lines, 4):
            ident = _plain_number(fields[2])
            if ident is not None and ident <= MAX_ID and matched in fields[3].split(","):
                extra.append(ident)
    extra.extend(_group(root, item, item) for item in additional_groups)
    # The main group is among the supplementary ones, too: or a file that denies it lets us in (CVE-2022-36109).
    return Identity(uid, gid, tuple(dict.fromkeys((gid, *extra))), home)


def _group(root: int, group: str, asked: str) -> int:
    number = _number(group, asked)
    for fields in _records(_read(root, "/etc/group", needed=number is None), 3):
        ident = _plain_number(fields[2])
        if ident is not None and ident <= MAX_ID and ((ident == number) if number is not None else fields[0] == group):
            return ident
    if number is None:
        raise UserNotFound(
            f"unable to find group {group}: no matching entries in group file",
            hint="create the group in the image first, or give a number",
        )
    return number


def _plain_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _number(text: str, asked: str) -> int | None:
    digits = text[1:] if text[:1] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        return None
    if text[0] in "+-" or len(digits) > 10 or int(digits) > MAX_ID:
        raise UserNotFound(f'invalid user "{asked}": uids and gids must be in range 0-{MAX_ID}')
    return int(digits)


def _records(text: str, width: int) -> list[list[str]]:
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) >= width and not line.startswith("#"):
            found.append(fields)
    return found


def _read(root: int, path: str, *, needed: bool) -> str:
    """The file's text; "" when it is absent and not *needed* to tell who the user is."""
    try:
        return targets.read(root, path, MAX_FILE)
    except OSError as err:
        if needed and err.errno == errno.EINVAL:
            text = f"{path} in the image is not a plain file of at most {MAX_FILE >> 20} MiB"
            raise UserNotFound(text) from err
        return ""

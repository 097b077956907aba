"""The repair of each finding, where the right edit is certain: the edits of the text, or none.

Certain means: the image that is built has the same config and files, but for what the rule is about - the author
becomes a label, a command no longer runs in a shell. What needs a decision (a name, a value, a platform) has no repair.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from parser import instructions as ast
from parser.characters import BLANKS, SPACES
from parser.checks import rules
from parser.checks.commands import argv_of
from parser.checks.positions import Edit, Line
from parser.checks.rules import Finding
from parser.errors import DockerfileError
from parser.words import process

__all__ = ["AUTHORS", "fix", "same_value"]

AUTHORS = "org.opencontainers.image.authors"
_PLAIN_KEY = re.compile(r"[^\s\"'\\`$=]+")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9_./+-]*")

Edits = tuple[Edit, ...]


def fix(finding: Finding, line: Line) -> Edits:
    """What to change in the lines of an instruction so that `finding` is gone; nothing where that is not certain."""
    repair = _FIXES.get(finding.rule.name)
    return repair(line, finding) if repair is not None else ()


def same_value(one: str, other: str, *, escape: str) -> bool:
    """Whether two words of ENV or LABEL have the same value, whatever the variables in them are."""
    environments: tuple[dict[str, str], ...] = ({}, _Anything())
    try:
        return all(
            process(one, env, escape=escape).text == process(other, env, escape=escape).text for env in environments
        )
    except DockerfileError:
        return False


class _Anything(dict[str, str]):
    """Every variable is set, to something that tells it from others and has blanks."""

    def get(self, name: str, default: object = None) -> str:
        """A value that only this name has."""
        return f"< {name} >"


def _stage_name(line: Line, finding: Finding) -> Edits:
    end = len(line.text.rstrip(SPACES))
    begin = end - len(finding.word)
    return line.replace(begin, end, finding.word.lower()) if line.text[begin:end] == finding.word else ()


def _as(line: Line, finding: Finding) -> Edits:
    found = re.search(f"[{BLANKS}]({re.escape(finding.word)})[{BLANKS}]+[^{BLANKS}]+[{BLANKS}]*\\Z", line.text)
    if found is None:
        return ()
    keyword = line.instruction.keyword
    return line.replace(*found.span(1), "as" if keyword == keyword.lower() else "AS")


def _keyword(line: Line, finding: Finding) -> Edits:
    keyword = line.instruction.keyword
    wanted = keyword.lower() if finding.word == "lowercase" else keyword.upper()
    return line.replace(0, len(keyword), wanted) if line.text.startswith(keyword) else ()


def _empty_lines(line: Line, finding: Finding) -> Edits:
    layout, logical = line.layout, line.logical
    inside = range(logical.span.start.line + 1, logical.last.line + 1)
    return tuple(layout.whole(number) for number in inside if not layout.line(number).strip(SPACES))


def _legacy(line: Line, finding: Finding) -> Edits:
    """`key value` → `key=value`, quoted where the value has blanks."""
    if not isinstance(line.instruction, ast.Env | ast.Label):
        return ()  # an ONBUILD trigger
    (pair,) = line.instruction.pairs
    keyword = line.instruction.keyword
    between = f"[{SPACES}]+{re.escape(pair.key)}([{BLANKS}]+){re.escape(pair.value)}[{SPACES}]*"
    found = re.compile(re.escape(keyword) + between).fullmatch(line.text)
    if found is None or _PLAIN_KEY.fullmatch(pair.key) is None:
        return ()
    escape = line.layout.dockerfile.directives.escape
    begin, end = found.end(1), found.end(1) + len(pair.value)
    joined = line.replace(*found.span(1), "=")
    if not re.search(f"[{SPACES}]", pair.value):
        return joined
    if not any(character in pair.value for character in ("'", '"', escape)):
        opened = line.replace(*found.span(1), '="')
        return (*opened, *line.append(end, '"'))
    blanks = _open_blanks(pair.value, escape)
    return (*joined, *(edit for blank in blanks for edit in line.insert(begin + blank, escape)))


def _open_blanks(value: str, escape: str) -> list[int]:
    """Where white space stands outside quotes and is not escaped."""
    found: list[int] = []
    quote, position = "", 0
    while position < len(value):
        character = value[position]
        if character == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in SPACES:
            found.append(position)
        position += 1
    return found


def _maintainer(line: Line, finding: Finding) -> Edits:
    assert isinstance(line.instruction, ast.Maintainer)
    dockerfile = line.layout.dockerfile
    labels = [pair.key for one in dockerfile.instructions if isinstance(one, ast.Label) for pair in one.pairs]
    begin = _after_keyword(line)
    end = begin + len(line.instruction.name)
    if AUTHORS in labels or line.text[begin:end] != line.instruction.name:
        return ()  # two authors: one of them is a mistake
    keyword = line.instruction.keyword
    label = "label" if keyword == keyword.lower() else "LABEL"
    escape = dockerfile.directives.escape
    special = (at for at in range(begin, end) if line.text[at] in ('"', "$", escape))
    escaped = (edit for at in special for edit in line.insert(at, escape))
    return (*line.replace(0, begin, f'{label} {AUTHORS}="'), *escaped, *line.append(end, '"'))


def _json(line: Line, finding: Finding) -> Edits:
    if not isinstance(line.instruction, ast.Cmd | ast.Entrypoint):
        return ()  # an ONBUILD trigger
    command = line.instruction.command
    # An ENTRYPOINT without a shell takes CMD as arguments, which one with a shell does not.
    partner = ast.Entrypoint if isinstance(line.instruction, ast.Cmd) else ast.Cmd
    others = line.layout.dockerfile.instructions
    if isinstance(command, ast.ExecForm) or any(isinstance(one, partner) for one in others):
        return ()
    argv = argv_of(command.script)
    begin, end = _after_keyword(line), len(line.text.rstrip(SPACES))
    if argv is None or line.text[begin:end] != command.script or not line.in_one_piece(begin, end):
        return ()
    return line.replace(begin, end, json.dumps(argv, ensure_ascii=False))


def _workdir(line: Line, finding: Finding) -> Edits:
    if not isinstance(line.instruction, ast.Workdir) or _PLAIN_PATH.fullmatch(finding.word) is None:
        return ()  # an ONBUILD trigger; or nobody knows what the base image says, or it needs quoting
    return line.insert(_after_keyword(line), finding.word.rstrip("/") + "/")


def _target_platform(line: Line, finding: Finding) -> Edits:
    found = re.search(f"--platform={re.escape(finding.word)}[{BLANKS}]+", line.text)
    return line.replace(*found.span(), "") if found is not None else ()


def _protocol(line: Line, finding: Finding) -> Edits:
    protocol = finding.word.rpartition("/")[2]
    found = re.finditer(f"/({re.escape(protocol)})(?=[{BLANKS}]|\\Z)", line.text)
    return tuple(edit for one in found for edit in line.replace(*one.span(1), protocol.lower()))


def _published(line: Line, finding: Finding) -> Edits:
    """What stands before the container's port has no effect."""
    found = re.search(f"(?<=[{BLANKS}])({re.escape(finding.word)})(?=[{BLANKS}]|\\Z)", line.text)
    return line.replace(*found.span(1), finding.word.rpartition(":")[2]) if found is not None else ()


def _description(line: Line, finding: Finding) -> Edits:
    """A name that is only spelt with other capitals."""
    instruction, layout = line.instruction, line.layout
    names = [instruction.alias or ""] if isinstance(instruction, ast.From) else []
    names += [one.name for one in instruction.args] if isinstance(instruction, ast.Arg) else []
    number = instruction.span.start.line - 1
    while number and not layout.line(number).strip(SPACES):
        number -= 1
    comment = layout.line(number) if number else ""
    meant = next((name for name in names if name.lower() == finding.word.lower()), None)
    at = comment.find(finding.word)
    if meant is None or not comment.startswith("#") or comment[1:at].strip(SPACES):
        return ()
    start = layout.whole(number).start + at
    return (Edit(start, start + len(finding.word), meant),)


def _after_keyword(line: Line) -> int:
    """Where the arguments begin."""
    found = re.compile(f"[{BLANKS}]*").match(line.text, len(line.instruction.keyword))
    assert found is not None
    return found.end()


_FIXES: Mapping[str, Callable[[Line, Finding], Edits]] = {
    rules.STAGE_NAME_CASING.name: _stage_name,
    rules.FROM_AS_CASING.name: _as,
    rules.CONSISTENT_INSTRUCTION_CASING.name: _keyword,
    rules.NO_EMPTY_CONTINUATION.name: _empty_lines,
    rules.LEGACY_KEY_VALUE_FORMAT.name: _legacy,
    rules.MAINTAINER_DEPRECATED.name: _maintainer,
    rules.JSON_ARGS_RECOMMENDED.name: _json,
    rules.WORKDIR_RELATIVE_PATH.name: _workdir,
    rules.REDUNDANT_TARGET_PLATFORM.name: _target_platform,
    rules.EXPOSE_PROTO_CASING.name: _protocol,
    rules.EXPOSE_INVALID_FORMAT.name: _published,
    rules.INVALID_DEFINITION_DESCRIPTION.name: _description,
}

"""`Statement` → instruction: the number of arguments, flags, names and times, with docker's messages.

One function per instruction, in a table. Errors have no span: `grammar` knows the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from parser.characters import SPACES
from parser.durations import parse_duration
from parser.errors import DockerfileError, did_you_mean
from parser.flags import FlagValues, read_flags
from parser.heredocs import announced
from parser.instructions import (
    Add,
    Arg,
    Argument,
    Cmd,
    Command,
    Copy,
    Entrypoint,
    Env,
    ExecForm,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Pair,
    Run,
    Shell,
    ShellForm,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from parser.mounts import check_early
from parser.syntax import Heredoc, Statement, quote

__all__ = ["KEYWORDS", "interpret"]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_ONBUILD = re.compile(rf"[{SPACES}]*onbuild[{SPACES}]*", re.IGNORECASE)
_SHORTEST_INTERVAL = 1_000_000
"""Nanoseconds: docker takes no interval below 1 ms."""


def interpret(statement: Statement) -> Instruction:
    """The typed instruction. Raises DockerfileError without a span."""
    read = _READERS.get(statement.keyword.lower())
    if read is None:
        raise DockerfileError(
            f"unknown instruction: {statement.keyword}",
            hint=did_you_mean(statement.keyword, KEYWORDS),
            word=statement.keyword,
        )
    return read(statement)


def _from(statement: Statement) -> From:
    match statement.args:
        case [image]:
            alias = None
        case [image, word, name] if word.lower() == "as":
            alias = name.lower()
            if _STAGE_NAME.fullmatch(alias) is None:
                raise DockerfileError(
                    f"invalid name for build stage: {quote(name)}, name can't start with a number or contain symbols",
                    word=name,
                )
        case [_, *rest] if "#" in rest:
            raise DockerfileError("FROM requires either one or three arguments", hint="give the comment its own line")
        case [image, _, _]:
            raise DockerfileError("FROM requires either one or three arguments", hint="write FROM image AS name")
        case _:
            raise DockerfileError("FROM requires either one or three arguments", hint="write FROM image [AS name]")
    flags = _flags(statement)
    return From(statement, image, alias, flags.text("platform"))


def _run(statement: Statement) -> Run:
    flags = _flags(statement)
    mounts = flags.texts("mount")
    for mount in mounts:
        check_early(mount)
    return Run(
        statement,
        _command(statement),
        mounts=mounts,
        network=flags.text("network"),
        security=flags.text("security"),
        devices=flags.texts("device"),
    )


def _cmd(statement: Statement) -> Cmd:
    _flags(statement)
    return Cmd(statement, _command(statement))


def _entrypoint(statement: Statement) -> Entrypoint:
    _flags(statement)
    return Entrypoint(statement, _command(statement))


def _command(statement: Statement) -> Command:
    if statement.json:
        return ExecForm(statement.args)
    return ShellForm(" ".join(statement.args), statement.heredocs)


def _copy(statement: Statement) -> Copy:
    _need_destination(statement)
    flags = _flags(statement)
    sources, heredocs, dest = _sources(statement)
    return Copy(
        statement,
        sources,
        dest,
        heredocs,
        from_=flags.text("from") or None,
        chown=flags.text("chown") or None,
        chmod=flags.text("chmod") or None,
        link=flags.switch("link") or False,
        parents=flags.switch("parents") or False,
        exclude=flags.texts("exclude"),
    )


def _add(statement: Statement) -> Add:
    _need_destination(statement)
    flags = _flags(statement)
    sources, heredocs, dest = _sources(statement)
    return Add(
        statement,
        sources,
        dest,
        heredocs,
        checksum=flags.text("checksum") or None,
        keep_git_dir=flags.switch("keep-git-dir"),
        chown=flags.text("chown") or None,
        chmod=flags.text("chmod") or None,
        link=flags.switch("link") or False,
        unpack=flags.switch("unpack"),
        exclude=flags.texts("exclude"),
    )


def _need_destination(statement: Statement) -> None:
    if len(statement.args) < 2:
        raise DockerfileError(
            f"{_name(statement)} requires at least two arguments, but only one was provided. "
            "Destination could not be determined"
        )


def _sources(statement: Statement) -> tuple[tuple[str, ...], tuple[Heredoc, ...], str]:
    """Paths, here-documents with their contents, and the destination."""
    *words, dest = statement.args
    if _announced(dest) is not None:
        raise DockerfileError(f"{_name(statement)} cannot accept a heredoc as a destination", word=dest)
    contents = {heredoc.name: heredoc.content for heredoc in statement.heredocs}
    paths: list[str] = []
    heredocs: list[Heredoc] = []
    for word in words:
        heredoc = _announced(word)
        if heredoc is None:
            paths.append(word)
            continue
        content = contents.get(heredoc.name, "")
        heredocs.append(Heredoc(heredoc.name, content, expand=heredoc.expand, chomp=heredoc.chomp, fd=heredoc.fd))
    return tuple(paths), tuple(heredocs), dest


def _announced(word: str) -> Heredoc | None:
    if "<<" not in word:
        return None
    try:
        return announced(word)
    except DockerfileError:
        return None  # then it is a strange file name


def _env(statement: Statement) -> Env:
    _flags(statement)
    return Env(statement, _pairs(statement))


def _label(statement: Statement) -> Label:
    _flags(statement)
    return Label(statement, _pairs(statement))


def _pairs(statement: Statement) -> tuple[Pair, ...]:
    args = statement.args
    _need_one(statement)
    pairs = tuple(
        Pair(key, value, legacy=not separator)
        for key, value, separator in zip(args[::3], args[1::3], args[2::3], strict=True)
    )
    if not all(pair.key for pair in pairs):
        raise DockerfileError(f"{_name(statement)} names can not be blank")
    return pairs


def _arg(statement: Statement) -> Arg:
    _flags(statement)
    _need_one(statement)
    arguments = []
    for word in statement.args:
        name, equals, default = word.partition("=")
        if equals and not name:
            raise DockerfileError("ARG names can not be blank", word=word)
        arguments.append(Argument(name, default if equals else None, doc_comment(statement.comments, name)))
    return Arg(statement, tuple(arguments))


def doc_comment(comments: tuple[str, ...], name: str) -> str:
    """What the comment lines say about `name`: the text after "name " in the first line that begins with it."""
    if not name:
        return ""
    for comment in comments:
        if comment.startswith(f"{name} "):
            return comment[len(name) + 1 :]
    return ""


def _expose(statement: Statement) -> Expose:
    _need_one(statement)
    _flags(statement)
    return Expose(statement, tuple(sorted(statement.args)))


def _volume(statement: Statement) -> Volume:
    _flags(statement)
    _need_one(statement)
    paths = tuple(path.strip(SPACES) for path in statement.args)
    if not all(paths):
        raise DockerfileError("VOLUME specified can not be an empty string")
    return Volume(statement, paths)


def _user(statement: Statement) -> User:
    return User(statement, _only(statement))


def _workdir(statement: Statement) -> Workdir:
    return Workdir(statement, _only(statement))


def _stopsignal(statement: Statement) -> Stopsignal:
    return Stopsignal(statement, _only(statement))


def _maintainer(statement: Statement) -> Maintainer:
    return Maintainer(statement, _only(statement))


def _shell(statement: Statement) -> Shell:
    _flags(statement)
    if statement.json and statement.args:
        return Shell(statement, statement.args)
    _need_one(statement)
    raise DockerfileError(
        "SHELL requires the arguments to be in JSON form", hint='write SHELL ["executable", "parameter"]'
    )


def _healthcheck(statement: Statement) -> Healthcheck:
    _need_one(statement)
    kind, args = statement.args[0].upper(), statement.args[1:]
    if kind == "NONE":
        if args:
            raise DockerfileError("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(statement, ("NONE",))
    flags = _flags(statement)
    if kind != "CMD":
        raise DockerfileError(f"Unknown type {quote(kind)} in HEALTHCHECK (try CMD)", word=statement.args[0])
    if not args:
        raise DockerfileError("Missing command after HEALTHCHECK CMD")
    return Healthcheck(
        statement,
        ("CMD", *args) if statement.json else ("CMD-SHELL", " ".join(args)),
        interval=_interval(flags, "interval"),
        timeout=_interval(flags, "timeout"),
        start_period=_interval(flags, "start-period"),
        start_interval=_interval(flags, "start-interval"),
        retries=_retries(flags.text("retries")),
    )


def _interval(flags: FlagValues, name: str) -> int:
    text = flags.text(name)
    if not text:
        return 0
    duration = parse_duration(text)
    if duration != 0 and duration < _SHORTEST_INTERVAL:
        raise DockerfileError(f'Interval "{name}" cannot be less than 1ms', word=f"--{name}={text}")
    return duration


def _retries(text: str | None) -> int:
    if not text:
        return 0
    if re.fullmatch(r"[+-]?[0-9]{1,10}", text) is None or not -(2**31) <= int(text) < 2**31:
        raise DockerfileError(
            f"strconv.ParseInt: parsing {quote(text)}: invalid syntax", hint="--retries takes a whole number", word=text
        )
    if int(text) < 0:
        raise DockerfileError(f"--retries cannot be negative ({int(text)})", word=text)
    return int(text)


def _onbuild(statement: Statement) -> Onbuild:
    if statement.inner is None:
        _need_one(statement)
    assert statement.inner is not None
    _flags(statement)
    trigger = statement.inner.keyword.upper()
    if trigger == "ONBUILD":
        raise DockerfileError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise DockerfileError(f"{trigger} isn't allowed as an ONBUILD trigger", word=statement.inner.keyword)
    expression = _ONBUILD.sub("", statement.original, count=1)
    for heredoc in statement.heredocs:
        expression += f"\n{heredoc.content}{heredoc.name}"
    return Onbuild(statement, expression)


def _flags(statement: Statement) -> FlagValues:
    return read_flags(statement.keyword.lower(), statement.flags)


def _name(statement: Statement) -> str:
    return statement.keyword.upper()


def _only(statement: Statement) -> str:
    if len(statement.args) != 1:
        raise DockerfileError(f"{_name(statement)} requires exactly one argument")
    _flags(statement)
    return statement.args[0]


def _need_one(statement: Statement) -> None:
    if not statement.args:
        raise DockerfileError(f"{_name(statement)} requires at least one argument")


_READERS: dict[str, Callable[[Statement], Instruction]] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _healthcheck,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stopsignal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}

KEYWORDS = tuple(sorted(keyword.upper() for keyword in _READERS))
"""The names of all instructions."""

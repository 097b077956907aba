"""Finds the command, reads its flags, runs it, and turns what went wrong into a text and an exit code.

The two edges of the program are here: `run` is the one place that catches everything.
"""

from __future__ import annotations

import errno
import os
import sys

from builder.cli import flags as f
from builder.cli.context import Cli
from builder.cli.registry import COMMANDS, GROUPS, Entry, Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from builder.cli.mirror import Program

GLOBAL = (
    f.Flag("root", "Directory of the store (or $LAMINA_ROOT)", word="DIR", complete="file"),
    f.switch("debug", "Show the Python traceback of an error (or LAMINA_DEBUG=1)", short="D"),
    f.Flag("config", "Location of client config files", word="string", complete="file"),
    f.Flag("log-level", "Set the logging level (debug, info, warn, error, fatal)", short="l", default="info"),
    f.Flag("host", "Not used: lamina has no daemon to connect to", short="H", hidden=True),
    f.Flag("context", "Not used: lamina has no daemon to connect to", short="c", hidden=True),
    f.switch("version", "Print version information and quit", short="v"),
    f.switch("help", "Print usage", short="h", hidden=True),
)
CONTAINER_COMMANDS = ("run", "create", "exec")


class Exit(Exception):
    """Ends the command with `code` after everything has been said."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Arity(Exception):
    """Too few or too many arguments: docker ends with 1 for these, where a bad flag ends with 125."""


def run(arguments: Sequence[str], env: dict[str, str] | None = None) -> int:
    """Do what the command line says and give the exit code.  Never raises."""
    env = dict(os.environ) if env is None else env
    debug = env.get("LAMINA_DEBUG", "") not in ("", "0")
    words: list[str] = []
    try:
        with Cli(env, debug=debug) as cli:
            if "LAMINA_CRASHPOINT" in env:
                from builder.store import crash

                crash.arm(env["LAMINA_CRASHPOINT"])
            if "_LAMINA_COMPLETE" in env:
                return _flushed(complete(cli, env["_LAMINA_COMPLETE"]))
            code = _run(cli, list(arguments), words)
            sys.stdout.flush()
            return code
    except Exit as leave:
        return _flushed(leave.code)
    except KeyboardInterrupt:
        return _flushed(130)
    except BrokenPipeError:
        # the reader has gone: there is nobody to tell, and nothing more may be written at shutdown
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 141
    except Exception as error:  # noqa: BLE001  the program's outermost edge
        return _flushed(_report(error, words, debug=debug or "-D" in arguments or "--debug" in arguments))


def _run(cli: Cli, arguments: list[str], words: list[str]) -> int:
    try:
        values, rest = f.parse(GLOBAL, arguments, stop_at_argument=True)
    except f.UsageError as error:
        cli.say(f"{error}\n\nUsage:  lamina [OPTIONS] COMMAND [ARG...]\n\nRun 'lamina --help' for more information")
        return 125
    cli.debug = cli.debug or values.on("debug")
    cli.choose_root(values.text("root"))
    cli.choose_config(values.text("config"))
    if values.on("version"):
        from builder import VERSION

        cli.out(f"lamina version {VERSION}")
        return 0
    if values.given("host"):
        raise f.UsageError("-H, --host: lamina has no daemon to connect to; leave it out")
    if not rest or values.on("help") or rest[0] == "help":
        return _help(cli, rest[1:] if rest[:1] == ["help"] else [])
    path, found, rest = find(rest)
    words.extend(path)
    if isinstance(found, Group):
        return _group(cli, path, rest)
    return _command(cli, path, found, rest)


def find(words: Sequence[str]) -> tuple[list[str], Entry | Group, list[str]]:
    """The command or group that the words name, the words that named it, and the words after.

    Raises UsageError for a command that does not exist.
    """
    first, *rest = words
    group = GROUPS.get(first)
    if group is not None:
        if not rest or rest[0].startswith("-"):
            return [first], group, rest
        if rest[0] in group.below:
            return find(rest)
        name = group.aliases.get(rest[0], rest[0])
        if name in group.entries:
            return [first, name], group.entries[name], rest[1:]
        raise _unknown([first], rest[0], [*group.entries, *group.below])
    if first in COMMANDS:
        return [first], COMMANDS[first], rest
    known = [name for name, entry in COMMANDS.items() if not entry.hidden] + list(GROUPS)
    raise _unknown([], first, known)


def load(entry: Entry) -> f.Command:
    """The command of a registry entry; imports its module."""
    commands: dict[str, f.Command] = __import__(f"builder.cli.commands.{entry.module}", fromlist=["COMMANDS"]).COMMANDS
    return commands[entry.key]


def _unknown(path: Sequence[str], word: str, known: Sequence[str]) -> f.UsageError:
    called = " ".join(["lamina", *path])
    near = f.closest(word, known)
    hint = f"\n\nDid you mean this?\n\t{near}" if near else ""
    return f.UsageError(f"lamina: unknown command: {called} {word}{hint}\n\nRun '{called} --help' for more information")


def _help(cli: Cli, topic: list[str]) -> int:
    from builder.cli import mirror

    path = find(topic)[0] if topic else []
    cli.out(mirror.help_text(path, mirrored(cli)))
    return 0


def mirrored(cli: Cli) -> Program:
    """All commands as a click program, for help and completion only: importing click costs as much as a command."""
    from builder.cli import mirror
    from builder.cli.commands import completion

    def words(kinds: str, root: str) -> list[str]:
        cli.choose_root(root)
        return completion.words(cli, kinds)

    return mirror.Program(GLOBAL, load, words)


def complete(cli: Cli, instruction: str) -> int:
    """Answer a shell that asks, through the script of `completion`, what could stand at the cursor."""
    from builder.cli import mirror

    try:
        cli.out(mirror.completions(instruction, mirrored(cli)))
    except reported() as error:
        # the user is typing: nothing may appear in between
        if cli.debug:
            cli.say(message(error))
        return 1
    return 0


def _with_help(flags: Sequence[f.Flag]) -> tuple[f.Flag, ...]:
    """The flags, and --help, which is also -h where that means nothing else."""
    if any(flag.name == "help" for flag in flags):
        return tuple(flags)
    short = "" if any(flag.short == "h" for flag in flags) else "h"
    return (*flags, f.switch("help", "Print usage", short=short, hidden=True))


def _group(cli: Cli, path: list[str], rest: list[str]) -> int:
    f.parse(_with_help(()), rest, stop_at_argument=True)
    return _help(cli, path)


def _command(cli: Cli, path: list[str], entry: Entry, rest: list[str]) -> int:
    command = load(entry)
    wanted = _with_help(command.flags)
    called = " ".join(["lamina", *path])
    try:
        values, arguments = f.parse(wanted, rest, stop_at_argument=command.stop_at_argument)
        if values.on("help"):
            return _help(cli, path)
        _check_arity(called, command, arguments)
        return command.run(cli, values, arguments)
    except _Arity as error:
        cli.say(str(error))
        return 1
    except f.UsageError as error:
        cli.say(f"{error}\n\nUsage:  {called} {command.usage}\n\nRun '{called} --help' for more information")
        return 125


def _check_arity(called: str, command: f.Command, arguments: Sequence[str]) -> None:
    least, most = command.arguments
    count = len(arguments)
    if least <= count and (most is None or count <= most):
        return
    plural = "s" if (most if most is not None else least) != 1 else ""
    if most == 0:
        what = "accepts no arguments"
    elif most is None:
        what = f"requires at least {least} argument{plural}"
    elif least == most:
        what = f"requires {least} argument{plural}"
    elif least == 0:
        what = f"requires at most {most} argument{plural}"
    else:
        what = f"requires at least {least} and at most {most} argument{plural}"
    raise _Arity(
        f"lamina: '{called}' {what}\n\nUsage:  {called} {command.usage}\n\nRun '{called} --help' for more information"
    )


def reported() -> tuple[type[Exception], ...]:
    """The errors that are told about one name of several, before going on with the next."""
    from builder.errors import EngineError
    from runtime.errors import ContainerError

    return (EngineError, ContainerError)


def message(error: BaseException) -> str:
    """An error as commands show it: docker puts "Error response from daemon: " before what the engine says."""
    from builder.cli.harmless import harmless

    hint = getattr(error, "hint", None)
    text = getattr(error, "message", None) or str(error)
    return harmless(f"Error: {text}" + (f"\nhint: {hint}" if hint else ""))


def _report(error: Exception, words: Sequence[str], *, debug: bool) -> int:
    """Say what went wrong on stderr and give the exit code."""
    command = words[-1] if words and words[:-1] in ([], ["container"]) else ""
    if isinstance(error, f.UsageError):
        _say(str(error))
        return 125 if command in CONTAINER_COMMANDS else 1
    from builder.cli.exitcodes import exit_code
    from builder.cli.gotemplate import TemplateError
    from parser.errors import DockerfileError

    if debug:
        import traceback

        traceback.print_exception(error)
    for_container = command in CONTAINER_COMMANDS
    code = exit_code(error, command=command)
    if isinstance(error, TemplateError):
        _say(f"template parsing error: template: :1: {error}")
    elif isinstance(error, DockerfileError):
        _say(f"ERROR: {error}")
    elif isinstance(error, reported()):
        if excerpt := getattr(error, "excerpt", ""):
            _say(excerpt)
        prefix = f"lamina: {message(error)}" if for_container else message(error)
        _say(prefix + (f"\n\nRun 'lamina {' '.join(words)} --help' for more information" if for_container else ""))
    elif isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        _say(f"Error: {where}{error.strerror or error}")
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            _say("hint: free some space where it was to be written, then try again")
    else:
        _say(f"lamina: internal error: {type(error).__name__}: {error}")
        if not debug:
            _say("this is a fault of lamina; LAMINA_DEBUG=1 shows where it happened")
    return code


def _say(text: str) -> None:
    from builder.cli.harmless import harmless

    try:
        sys.stdout.flush()
        sys.stderr.write(harmless(text) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody reads; the exit code says it


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return code


def fail(cli: Cli, text: str, code: int = 1) -> NoReturn:
    """Say `text` on stderr and end with `code`."""
    cli.say(text)
    raise Exit(code)

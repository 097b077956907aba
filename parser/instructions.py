"""The 18 instructions of a Dockerfile as frozen values, and the Dockerfile that holds them.

Texts are as written: nothing is expanded here, since the values of variables are known only in the plan
(`parser.words.expand`). Two instructions are equal when they say the same; where they stand is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parser.source import Source, Span
from parser.syntax import Flag, Heredoc, Statement

__all__ = [
    "Add",
    "Arg",
    "Argument",
    "Cmd",
    "Command",
    "Copy",
    "Directives",
    "Dockerfile",
    "Entrypoint",
    "Env",
    "ExecForm",
    "Expose",
    "From",
    "Healthcheck",
    "Instruction",
    "Label",
    "Maintainer",
    "Onbuild",
    "Pair",
    "Run",
    "Shell",
    "ShellForm",
    "Stopsignal",
    "User",
    "Volume",
    "Workdir",
]


@dataclass(frozen=True, slots=True)
class ShellForm:
    """A command line for the shell. `script` is the logical line; with heredocs it names them (`<<EOF`)."""

    script: str
    heredocs: tuple[Heredoc, ...] = ()


@dataclass(frozen=True, slots=True)
class ExecForm:
    """An argument vector, from a JSON array. It may be empty: `CMD []` resets."""

    argv: tuple[str, ...]


Command = ShellForm | ExecForm


@dataclass(frozen=True, slots=True)
class Pair:
    """`key=value` of ENV or LABEL, both raw words with their quotes. `legacy`: written `key value`."""

    key: str
    value: str
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Argument:
    """`name` or `name=default` of ARG, raw. `comment` is the comment above when it begins with the name."""

    name: str
    default: str | None = None
    comment: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Node:
    """What all instructions have: the statement that they were read from."""

    statement: Statement = field(compare=False, repr=False)

    @property
    def keyword(self) -> str:
        """The instruction's name as the user spelt it."""
        return self.statement.keyword

    @property
    def original(self) -> str:
        """The logical line, continuations joined: what history and progress show."""
        return self.statement.original

    @property
    def span(self) -> Span:
        """From the first character of the keyword to the end, heredocs included."""
        return self.statement.span

    @property
    def flags(self) -> tuple[Flag, ...]:
        """The flags as written, in order."""
        return self.statement.flags


@dataclass(frozen=True, slots=True)
class From(Node):
    """FROM [--platform=P] image [AS alias]. `alias` is lower-cased, as stage names do not heed case."""

    image: str
    alias: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class Run(Node):
    """RUN [--mount=…] [--network=…] [--security=…] [--device=…] command.

    `mounts` are raw option lists: `parser.mounts.parse_mount` reads them once variables have values.
    """

    command: Command
    mounts: tuple[str, ...] = ()
    network: str | None = None
    security: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cmd(Node):
    """CMD command."""

    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Node):
    """ENTRYPOINT command."""

    command: Command


@dataclass(frozen=True, slots=True)
class Copy(Node):
    """COPY [flags] source… dest. `heredocs` are further sources: files of that name and content."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Add(Node):
    """ADD [flags] source… dest. `unpack` is None when the flag is not given: archives unpack, URLs do not."""

    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    checksum: str | None = None
    keep_git_dir: bool | None = None
    chown: str | None = None
    chmod: str | None = None
    link: bool = False
    unpack: bool | None = None
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Env(Node):
    """ENV key=value … or the old ENV key value."""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Arg(Node):
    """ARG name[=default] …"""

    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Label(Node):
    """LABEL key=value …"""

    pairs: tuple[Pair, ...]


@dataclass(frozen=True, slots=True)
class Expose(Node):
    """EXPOSE port[/protocol] …, sorted as docker does; `parser.ports.parse_port` reads each after expansion."""

    ports: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Volume(Node):
    """VOLUME path …"""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class User(Node):
    """USER name|uid[:group|gid]"""

    user: str


@dataclass(frozen=True, slots=True)
class Workdir(Node):
    """WORKDIR path"""

    path: str


@dataclass(frozen=True, slots=True)
class Shell(Node):
    """SHELL ["executable", "parameter"…]"""

    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Healthcheck(Node):
    """HEALTHCHECK NONE, or with options and a command.

    `test` is as in an image config: ("NONE",), ("CMD", argument…) or ("CMD-SHELL", script). Times in
    nanoseconds, 0 for not given.
    """

    test: tuple[str, ...]
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Stopsignal(Node):
    """STOPSIGNAL name|number"""

    signal: str


@dataclass(frozen=True, slots=True)
class Onbuild(Node):
    """ONBUILD instruction. `expression` is the text that goes into the image's config, heredocs included.

    Docker reads it when an image is built *from* this one; `parser.grammar.parse_trigger` does that.
    """

    expression: str


@dataclass(frozen=True, slots=True)
class Maintainer(Node):
    """MAINTAINER name (deprecated)"""

    name: str


Instruction = (
    From
    | Run
    | Cmd
    | Label
    | Maintainer
    | Expose
    | Env
    | Add
    | Copy
    | Entrypoint
    | Volume
    | User
    | Workdir
    | Arg
    | Onbuild
    | Stopsignal
    | Healthcheck
    | Shell
)


@dataclass(frozen=True, slots=True)
class Directives:
    """The parser directives at the top of the file.

    `syntax` is the text after `# syntax=` (a frontend image and its arguments), `check` that after `# check=`.
    """

    syntax: str | None = None
    escape: str = "\\"
    check: str | None = None


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A parsed Dockerfile. The first instructions may be ARGs; everything else belongs to the FROM above it."""

    source: Source = field(compare=False, repr=False)
    directives: Directives
    instructions: tuple[Instruction, ...]

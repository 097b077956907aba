"""Instructions that change only the image's config: ENV, LABEL, CMD, USER and their like, each with its history entry.

Settings is the config of one stage while its instructions are walked: mutable, so that a Dockerfile of 100,000 lines
stays linear, and never seen outside of `plan`. All words are expanded already. The texts of history entries are what
BuildKit writes, to the letter, since people diff `docker history`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from builder.errors import InvalidInput
from runtime.values import replace

if TYPE_CHECKING:
    from builder.oci.configs import ContainerConfig, Healthcheck

DEFAULT_SHELL = ("/bin/sh", "-c")


class Settings:
    """What a stage's image will be started with. Empty texts and tuples mean "not set"; dicts keep their order."""

    __slots__ = (
        "args_escaped",
        "author",
        "cmd",
        "cmd_set",
        "entrypoint",
        "env",
        "healthcheck",
        "labels",
        "onbuild",
        "ports",
        "shell",
        "stop_signal",
        "user",
        "volumes",
        "workdir",
    )

    def __init__(self) -> None:
        self.env: dict[str, str] = {}
        self.labels: dict[str, str] = {}
        self.ports: dict[str, None] = {}
        self.volumes: dict[str, None] = {}
        self.cmd: tuple[str, ...] = ()
        self.entrypoint: tuple[str, ...] = ()
        self.shell: tuple[str, ...] = ()
        self.onbuild: list[str] = []
        self.healthcheck: Healthcheck | None = None
        self.user = ""
        self.workdir = ""
        self.stop_signal = ""
        self.author = ""
        self.args_escaped = False
        self.cmd_set = False

    def copy(self) -> Settings:
        """What a stage built FROM this one starts with: everything but the triggers, and CMD counts as inherited."""
        other = Settings()
        for name in ("env", "labels", "ports", "volumes"):
            setattr(other, name, dict(getattr(self, name)))
        for name in ("cmd", "entrypoint", "shell", "healthcheck", "user", "workdir", "stop_signal", "author"):
            setattr(other, name, getattr(self, name))
        other.args_escaped = self.args_escaped
        return other

    def environment(self) -> tuple[str, ...]:
        """The variables as "K=V"."""
        return tuple(f"{name}={value}" for name, value in self.env.items())

    def config(self, before: ContainerConfig, on_build: Sequence[str]) -> ContainerConfig:
        """*before* with all of this; what is no instruction (stop timeout, ArgsEscaped) stays as it is there."""
        return replace(
            before,
            user=self.user,
            exposed_ports=tuple(self.ports),
            env=self.environment(),
            entrypoint=self.entrypoint or None,
            cmd=self.cmd or None,
            volumes=tuple(self.volumes),
            working_dir=self.workdir,
            labels=self.labels,
            stop_signal=self.stop_signal,
            healthcheck=self.healthcheck,
            on_build=tuple(on_build),
            shell=self.shell or None,
        )

    def in_shell(self, script: str) -> tuple[str, ...]:
        """The argv that runs *script* in the stage's SHELL."""
        return (*(self.shell or DEFAULT_SHELL), script)

    def set_env(self, pairs: Iterable[tuple[str, str]]) -> str:
        """ENV: sets variables; gives the history entry, as all of these do."""
        pairs = tuple(pairs)
        self.env.update(pairs)
        return _pairs_text("ENV", pairs)

    def set_labels(self, pairs: Iterable[tuple[str, str]]) -> str:
        """LABEL."""
        pairs = tuple(pairs)
        self.labels.update(pairs)
        return _pairs_text("LABEL", pairs)

    def set_cmd(self, argv: Sequence[str]) -> str:
        """CMD; *argv* with the shell before it for the shell form."""
        self.cmd = tuple(argv)
        self.cmd_set = True
        # Deprecated and meaningless on Linux, but Docker's images carry it, and its tools compare configs.
        self.args_escaped = True
        return f"CMD {go_quoted_list(argv)}"

    def set_entrypoint(self, argv: Sequence[str]) -> str:
        """ENTRYPOINT: forgets a CMD that is inherited, not one that this stage gave before."""
        self.entrypoint = tuple(argv)
        if not self.cmd_set:
            self.cmd = ()
        return f"ENTRYPOINT {go_quoted_list(argv)}"

    def set_user(self, user: str) -> str:
        """USER, kept as written: names are looked up when something runs."""
        self.user = user
        return f"USER {user}"

    def set_workdir(self, path: str) -> tuple[str, str]:
        """WORKDIR: (the absolute directory that holds now, history entry).

        An absolute path stays as it is written, "/a/../b/" too; what is relative is joined to the last one and cleaned.
        """
        self.workdir = path if path.startswith("/") else join_clean(self.workdir or "/", path)
        return self.workdir, f"WORKDIR {self.workdir}"

    def expose(self, ports: Iterable[str]) -> str:
        """EXPOSE; each port as "80/tcp"."""
        ports = tuple(ports)
        self.ports.update(dict.fromkeys(ports))
        return f"EXPOSE [{' '.join(ports)}]"

    def add_volumes(self, paths: Sequence[str]) -> str:
        """VOLUME; raises InvalidInput for an empty path."""
        if "" in paths:
            raise InvalidInput("VOLUME specified can not be an empty string")
        self.volumes.update(dict.fromkeys(paths))
        return f"VOLUME [{' '.join(paths)}]"

    def set_stop_signal(self, signal: str) -> str:
        """STOPSIGNAL, kept as written; raises InvalidInput when no such signal exists."""
        if not is_signal(signal):
            raise InvalidInput(f"invalid signal: {signal}", hint="give a name such as SIGTERM or a number from 1 to 64")
        self.stop_signal = signal
        return f"STOPSIGNAL {signal}"

    def set_shell(self, argv: Sequence[str]) -> str:
        """SHELL."""
        self.shell = tuple(argv)
        return f"SHELL [{' '.join(argv)}]"

    def set_healthcheck(self, check: Healthcheck) -> str:
        """HEALTHCHECK; replaces an inherited one with all of its options."""
        self.healthcheck = check
        return (
            f"HEALTHCHECK {{Test:[{' '.join(check.test)}] Interval:{go_duration(check.interval)}"
            f" Timeout:{go_duration(check.timeout)} StartPeriod:{go_duration(check.start_period)}"
            f" StartInterval:{go_duration(check.start_interval)} Retries:{check.retries}}}"
        )

    def set_author(self, name: str) -> str:
        """MAINTAINER."""
        self.author = name
        return f"MAINTAINER {name}"


def _pairs_text(keyword: str, pairs: Iterable[tuple[str, str]]) -> str:
    return " ".join((keyword, *(f"{name}={value}" for name, value in pairs)))


def join_clean(directory: str, path: str) -> str:
    """*path* seen from *directory* (absolute), without ".", ".." and double slashes; "" is the directory itself."""
    joined = path if path.startswith("/") else f"{directory}/{path}"
    # normpath keeps two leading slashes, which POSIX allows to mean something else
    return "/" + posixpath.normpath(joined).lstrip("/")


def go_quoted(text: str) -> str:
    """*text* as Go's %q prints it."""
    return (
        '"' + "".join(_GO_ESCAPES.get(char) or (char if char.isprintable() else _go_hex(char)) for char in text) + '"'
    )


def go_quoted_list(words: Iterable[str]) -> str:
    """Words as Go's %q prints a slice of strings."""
    return "[" + " ".join(map(go_quoted, words)) + "]"


_GO_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def _go_hex(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape decodes it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_duration(nanoseconds: int) -> str:
    """A duration as Go's Duration prints it: "1m30s", "1.5s", "20ms", "0s"."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    if left < 1_000_000_000:
        for unit, size in (("ms", 1_000_000), ("µs", 1_000), ("ns", 1)):
            if left >= size:
                return f"{sign}{_fraction(left, size)}{unit}"
    minutes, rest = divmod(left, 60_000_000_000)
    hours, minutes_left = divmod(minutes, 60)
    text = f"{_fraction(rest, 1_000_000_000)}s"
    if minutes:
        text = f"{minutes_left}m{text}"
    if hours:
        text = f"{hours}h{text}"
    return sign + text


def _fraction(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    if not rest:
        return str(whole)
    return f"{whole}." + str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")


# Names and numbers of Linux, not of the machine that builds: SIGRTMIN is 34 where glibc keeps two for itself.
_SIGNALS = frozenset(
    [
        "ABRT",
        "ALRM",
        "BUS",
        "CHLD",
        "CLD",
        "CONT",
        "FPE",
        "HUP",
        "ILL",
        "INT",
        "IO",
        "IOT",
        "KILL",
        "PIPE",
        "POLL",
        "PROF",
        "PWR",
        "QUIT",
        "SEGV",
        "STKFLT",
        "STOP",
        "SYS",
        "TERM",
        "TRAP",
        "TSTP",
        "TTIN",
        "TTOU",
        "URG",
        "USR1",
        "USR2",
        "VTALRM",
        "WINCH",
        "XCPU",
        "XFSZ",
        "RTMIN",
        "RTMAX",
    ]
)


def is_signal(text: str) -> bool:
    """Whether Docker takes *text* as a signal: a number from 1 to 64, or a name (SIG is optional, RTMIN+n too)."""
    if text.isascii() and text.isdigit():
        return 0 < int(text[:4]) <= 64
    name = text.upper().removeprefix("SIG")
    if name in _SIGNALS:
        return True
    for start in ("RTMIN+", "RTMAX-"):
        offset = name.removeprefix(start)
        if offset != name and offset.isascii() and offset.isdigit():
            return 1 <= int(offset[:3]) <= (15 if start == "RTMIN+" else 14)
    return False

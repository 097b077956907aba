"""How commands talk to a container's supervisor: start, attach, stop, kill, wait, pause, resize.

A container directory holds ``config.json`` (a `runtime.supervised.Config`, written by the caller before start),
``state.json`` (written by the supervisor only, atomic rename), ``lock`` (flock held while the supervisor lives),
``attach.sock`` (protocol in `runtime.supervisor_protocol`), and the log files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Protocol

from runtime.states import ContainerState

Directory = str | PathLike[str]


class Prepared:
    """A supervisor process that has been started early and waits to be told its directory: hides its start-up time."""

    def start(self, directory: Directory, *, attach: bool = False) -> Session | None:
        """Run the container of *directory*; returns when it runs.

        With *attach* a Session connected before the first byte of output is returned. Raises ContainerError with the
        container's own start failure (exit codes 126, 127, 125 as docker's).
        """
        raise NotImplementedError

    def cancel(self) -> None:
        """End the waiting process; nothing was started."""
        raise NotImplementedError


def prepare() -> Prepared:
    """Start a supervisor process now (a few ms to spawn; it imports beside the caller's own work)."""
    raise NotImplementedError


def start(directory: Directory, *, attach: bool = False) -> Session | None:
    """`prepare` and `Prepared.start` in one."""
    raise NotImplementedError


class Session:
    """One attached client. Not thread-safe; `fileno` is readable when `pump` has something to do."""

    def fileno(self) -> int:
        """The socket, for a selectors loop."""
        raise NotImplementedError

    def send_stdin(self, data: bytes) -> None:
        """Bytes for the container's stdin."""
        raise NotImplementedError

    def close_stdin(self) -> None:
        """End of the client's stdin."""
        raise NotImplementedError

    def resize(self, rows: int, columns: int) -> None:
        """New size of the terminal, in characters."""
        raise NotImplementedError

    def signal(self, signal: int) -> None:
        """Send a signal to the container's first process (``--sig-proxy``)."""
        raise NotImplementedError

    def pump(self, stdout: Callable[[bytes], object], stderr: Callable[[bytes], object]) -> int | None:
        """Take one batch of frames; returns the exit code when the container has exited, else None.

        Raises EOFError when the supervisor is gone without an exit frame (killed): read `state` then.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Detach."""
        raise NotImplementedError


def attach(directory: Directory, *, stdin: bool = True, stdout: bool = True, stderr: bool = True) -> Session:
    """Attach to a running container. Raises NotRunning."""
    raise NotImplementedError


def state(directory: Directory) -> ContainerState:
    """The container's state as it is: one whose supervisor has died reads as exited with 137."""
    raise NotImplementedError


def stop(directory: Directory, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop signal, *timeout* seconds (None: the configured one; -1: for ever), then SIGKILL; returns when exited."""
    raise NotImplementedError


def kill(directory: Directory, signal: str = "SIGKILL") -> None:
    """Send a signal. Raises NotRunning."""
    raise NotImplementedError


def wait(directory: Directory) -> int:
    """Block until the container has exited for good (restarts included); its exit code."""
    raise NotImplementedError


def pause(directory: Directory) -> None:
    """Freeze all processes. Raises WrongState."""
    raise NotImplementedError


def unpause(directory: Directory) -> None:
    """Thaw. Raises WrongState."""
    raise NotImplementedError


def resize(directory: Directory, rows: int, columns: int) -> None:
    """Set the terminal's size without attaching."""
    raise NotImplementedError


def restart(directory: Directory, *, timeout: int | None = None, signal: str = "") -> None:
    """Stop, then start again in the same supervisor."""
    raise NotImplementedError


def update(directory: Directory) -> None:
    """Tell a running supervisor to read its config.json again (restart policy, name, health)."""
    raise NotImplementedError

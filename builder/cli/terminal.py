"""A container's streams on our own: raw terminal, sizes, signals, detach keys.

`follow` joins a supervisor's session, `join_console` the console of a process that `exec` started. The terminal is put
back whatever happens.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.errors import InvalidInput

if TYPE_CHECKING:
    from runtime.supervisor_client import Session

DETACH = "ctrl-p,ctrl-q"
_PROXIED = tuple(
    number
    for number in signal.valid_signals()
    if number not in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGKILL, signal.SIGSTOP, signal.SIGWINCH, signal.SIGURG)
    and number not in (signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTSTP, signal.SIGCONT)
    and number < 32
)


class Detached(Exception):
    """The user typed the detach keys."""


def parse_keys(text: str) -> bytes:
    """`ctrl-p,ctrl-q`, `a,b`: the bytes that detach. Raises InvalidInput."""
    keys = bytearray()
    for word in text.split(",") if text else ():
        if len(word) == 1 and word.isascii():
            keys += word.encode()
        elif (
            word.startswith("ctrl-")
            and len(word) == 6
            and (word[5].isascii() and (word[5].isalpha() or word[5] in "@[\\]^_"))
        ):
            keys.append(ord(word[5].upper()) & 0x1F)
        else:
            raise InvalidInput(f"invalid detach keys ({text}): unknown character: '{word}'")
    return bytes(keys)


class Keys:
    """Looks for the detach keys in what is typed."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._seen = 0

    def pass_on(self, data: bytes) -> bytes:
        """What goes to the container. Raises Detached when the keys are complete."""
        if not self._keys:
            return data
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._seen]:
                self._seen += 1
                if self._seen == len(self._keys):
                    raise Detached
                continue
            out += self._keys[: self._seen]
            self._seen = int(byte == self._keys[0])
            if not self._seen:
                out.append(byte)
        return bytes(out)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """The terminal passes every key on; it is as before at the end."""
    before = termios.tcgetattr(fd)
    tty.setraw(fd, termios.TCSANOW)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def size(fd: int) -> tuple[int, int] | None:
    """(rows, columns) of a terminal, None when it does not say."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


@contextmanager
def _signals(on_signal: Callable[[int], object], *, proxy: bool) -> Iterator[int]:
    """A descriptor that is readable after a signal; `on_signal` is called by whoever reads it."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    wanted = (signal.SIGWINCH, *(_PROXIED if proxy else ()))
    before = {number: signal.signal(number, lambda *_: None) for number in wanted}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        os.close(reading)
        os.close(writing)


def follow(
    session: Session, *, stdin: bool, terminal: bool, sig_proxy: bool, keys: bytes, streams: tuple[bool, bool]
) -> int | None:
    """Move bytes until the container has ended (its exit code) or the user detached (None).

    `terminal`: the container has one, ours is made raw. `streams`: whether stdout and stderr are wanted.
    Raises EOFError when the supervisor has gone without a word.
    """
    typed = Keys(keys if terminal else b"")

    def to_stdout(data: bytes) -> None:
        if streams[0]:
            write_all(1, data)

    def to_stderr(data: bytes) -> None:
        if streams[1]:
            write_all(2, data)

    def received(number: int) -> None:
        if number == signal.SIGWINCH:
            now = size(1) or size(0)
            if terminal and now:
                session.resize(*now)
        elif sig_proxy:
            session.signal(number)

    make_raw = terminal and stdin and os.isatty(0)
    with _signals(received, proxy=sig_proxy) as woken, selectors.DefaultSelector() as selector:
        with raw(0) if make_raw else _nothing():
            received(signal.SIGWINCH)
            selector.register(session, selectors.EVENT_READ, "session")
            selector.register(woken, selectors.EVENT_READ, "signal")
            held = False
            if stdin:
                _register(selector, 0)
            while True:
                for key, _ in selector.select():
                    if key.data == "session":
                        code = session.pump(to_stdout, to_stderr)
                        if code is not None:
                            return code
                        if held and session.room:
                            held = False
                            _register(selector, 0)
                    elif key.data == "signal":
                        for number in os.read(woken, 64):
                            received(number)
                    else:
                        data = os.read(0, 65536)
                        if not data:
                            selector.unregister(0)
                            session.close_stdin()
                            continue
                        try:
                            session.send_stdin(typed.pass_on(data))
                        except Detached:
                            return None
                        if not session.room:
                            held = True
                            selector.unregister(0)


def join_console(console: int, *, stdin: bool, keys: bytes) -> None:
    """Join our terminal with the console of a process until its output ends. Raises Detached."""
    typed = Keys(keys)
    with _signals(lambda _: None, proxy=False) as woken, selectors.DefaultSelector() as selector:
        with raw(0) if stdin and os.isatty(0) else _nothing():
            selector.register(console, selectors.EVENT_READ, "console")
            selector.register(woken, selectors.EVENT_READ, "signal")
            if stdin:
                _register(selector, 0)
            while True:
                for key, _ in selector.select():
                    if key.data == "console":
                        try:
                            data = os.read(console, 65536)
                        except OSError:
                            data = b""  # EIO: the last process has closed the terminal
                        if not data:
                            return
                        write_all(1, data)
                    elif key.data == "signal":
                        os.read(woken, 64)
                        now = size(1) or size(0)
                        if now:
                            termios.tcsetwinsize(console, now)
                    else:
                        data = os.read(0, 65536)
                        if data:
                            write_all(console, typed.pass_on(data))
                        else:
                            selector.unregister(0)


def _register(selector: selectors.BaseSelector, fd: int) -> None:
    try:
        selector.register(fd, selectors.EVENT_READ, "stdin")
    except (PermissionError, ValueError):
        # a regular file cannot be polled: it is read on another thread's time, through a pipe
        selector.register(_pumped(fd), selectors.EVENT_READ, "stdin")


def _pumped(fd: int) -> int:
    from threading import Thread

    reading, writing = os.pipe2(os.O_CLOEXEC)
    source = os.dup(fd)
    os.dup2(reading, fd)
    os.close(reading)

    def pump() -> None:
        try:
            while data := os.read(source, 65536):
                write_all(writing, data)
        except OSError:
            pass  # nobody reads any more
        finally:
            os.close(writing)
            os.close(source)

    Thread(target=pump, daemon=True).start()
    return fd


def write_all(fd: int, data: bytes) -> None:
    """All of `data`, in order."""
    if fd in (1, 2):
        (sys.stdout if fd == 1 else sys.stderr).flush()
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def _nothing() -> Iterator[None]:
    yield

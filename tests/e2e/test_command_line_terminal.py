"""`-it` on a real terminal: sizes, Ctrl-C, detach keys, exit code, and our own terminal as it was at the end."""

import fcntl
import os
import pty
import select
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import
SECONDS = 60
# One process is the terminal's foreground from before its first word until Ctrl-C: between two commands of an
# interactive shell the foreground group may be one that has just ended, and a Ctrl-C then reaches nobody.
IN_FRONT = b"sh -c 'stty size; exec sleep 1000'\n"


class Terminal:
    """A command whose three streams are a terminal, and the person in front of it."""

    def __init__(self, lamina: Lamina, *words: str) -> None:
        self.screen, side = pty.openpty()
        self._seen = b""
        self.resize(33, 99)
        self.before = termios.tcgetattr(self.screen)
        self._side = side
        self.process = lamina.start(*words, stdin=side, stdout=side, stderr=side, preexec_fn=own_terminal)

    def resize(self, rows: int, columns: int) -> None:
        """As the window of a terminal program does."""
        termios.tcsetwinsize(self.screen, (rows, columns))

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self.screen, keys)

    def wait_for(self, text: bytes) -> bytes:
        """What appeared up to and with `text`; what follows is for the next call."""
        while text not in self._seen:
            ready, _, _ = select.select([self.screen], [], [], SECONDS)
            if not ready:
                pytest.fail(f"{text!r} did not appear, but {self._seen!r}")
            try:
                data = os.read(self.screen, 65536)
            except OSError:
                pytest.fail(f"it ended before {text!r}: {self._seen!r}")
            self._seen += data
        end = self._seen.index(text) + len(text)
        found, self._seen = self._seen[:end], self._seen[end:]
        return found

    def end(self) -> int:
        """Wait for the end; the terminal must be as it was. Its exit code."""
        code: int = self.process.wait(SECONDS)
        assert termios.tcgetattr(self._side) == self.before
        return code

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.screen)
        os.close(self._side)


def own_terminal() -> None:
    """In the child: the terminal on stdin becomes the controlling one, so that Ctrl-C and resizing reach it."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@contextmanager
def terminal(lamina: Lamina, *words: str) -> Iterator[Terminal]:
    opened = Terminal(lamina, *words)
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture
def name(request: pytest.FixtureRequest, busybox_store: Lamina) -> Iterator[str]:
    """A container name of this test's own; a container of that name is removed afterwards."""
    made = "t-" + "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    yield made
    busybox_store("rm", "-f", "-v", made)


def test_a_shell_sees_a_terminal_of_our_size_and_its_exit_code_is_ours(busybox_store: Lamina) -> None:
    with terminal(busybox_store, "run", "--rm", "-it", "--network", "none", "busybox", "sh") as user:
        user.wait_for(b"/ # ")
        user.type(b"tty; stty size; echo T=$TERM\n")
        assert b"/dev/pts/0\r\n33 99\r\nT=xterm\r\n" in user.wait_for(b"T=xterm\r\n")
        user.type(b"exit 42\n")
        assert user.end() == 42
    assert busybox_store.text("ps", "-aq") == ""


def test_resizing_reaches_the_container(busybox_store: Lamina) -> None:
    script = "trap 'stty size; exit 0' WINCH; echo ready; while true; do sleep 0.05; done"
    with terminal(busybox_store, "run", "--rm", "-it", "--network", "none", "busybox", "sh", "-c", script) as user:
        user.wait_for(b"ready")
        user.resize(50, 120)
        user.wait_for(b"50 120")
        assert user.end() == 0


def test_ctrl_c_interrupts_the_program_in_the_container(busybox_store: Lamina) -> None:
    with terminal(busybox_store, "run", "--rm", "-it", "--network", "none", "busybox", "sh") as user:
        user.wait_for(b"/ # ")
        user.type(IN_FRONT)
        user.wait_for(b"33 99\r\n")
        user.type(b"\x03")
        user.wait_for(b"/ # ")
        user.type(b"echo code=$?; exit 3\n")
        user.wait_for(b"code=130")
        assert user.end() == 3


def test_ctrl_c_without_t_ends_run_with_the_containers_code(busybox_store: Lamina) -> None:
    script = "trap 'exit 8' INT; echo ready; while true; do sleep 0.05; done"
    with terminal(busybox_store, "run", "--rm", "--network", "none", "busybox", "sh", "-c", script) as user:
        user.wait_for(b"ready")
        user.type(b"\x03")
        assert user.end() == 8


def test_detach_keys_leave_it_running_and_attach_comes_back(busybox_store: Lamina, name: str) -> None:
    with terminal(busybox_store, "run", "-it", "--name", name, "--network", "none", "busybox", "sh") as user:
        user.wait_for(b"/ # ")
        user.type(b"\x10\x11")
        assert user.end() == 0
    assert busybox_store.text("inspect", "-f", "{{.State.Status}}", name) == "running"
    with terminal(busybox_store, "attach", "--detach-keys", "ctrl-x,q", name) as user:
        user.type(b"echo back\n")
        user.wait_for(b"back\r\n")
        user.type(b"\x18q")
        user.wait_for(b"read escape sequence")
        assert user.end() == 1
    with terminal(busybox_store, "attach", name) as user:
        user.type(b"exit 5\n")
        assert user.end() == 5
    assert busybox_store.text("inspect", "-f", "{{.State.ExitCode}}", name) == "5"


def test_exec_it(busybox_store: Lamina, name: str) -> None:
    busybox_store("run", "-d", "--name", name, "--network", "none", "busybox", "sleep", "1000")
    with terminal(busybox_store, "exec", "-it", name, "sh") as user:
        user.wait_for(b"/ # ")
        user.type(IN_FRONT)
        user.wait_for(b"33 99\r\n")
        user.resize(20, 60)
        user.type(b"\x03")
        user.wait_for(b"/ # ")
        user.type(b"stty size\n")
        user.wait_for(b"20 60")
        user.type(b"exit 6\n")
        assert user.end() == 6
    with terminal(busybox_store, "exec", "-it", name, "sh") as user:
        user.wait_for(b"/ # ")
        user.type(b"cat /proc/sys/kernel/hostname > /name; exec sleep 77\n")
        user.wait_for(b"sleep 77")
        user.type(b"\x10\x11")
        user.wait_for(b"read escape sequence")
        assert user.end() == 1
    assert any(row.endswith("sleep 77") for row in busybox_store.text("top", name).splitlines())
    busybox_store("kill", name)


def test_start_ai_of_a_terminal(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "-it", "--name", name, "--network", "none", "busybox", "sh")
    with terminal(busybox_store, "start", "-ai", name) as user:
        user.wait_for(b"/ # ")
        user.type(b"stty size; exit 7\n")
        user.wait_for(b"33 99")
        assert user.end() == 7


def test_t_alone_makes_a_terminal_and_it_without_one_is_told(busybox_store: Lamina, name: str) -> None:
    done = busybox_store("run", "--rm", "-t", "--network", "none", "busybox", "sh", "-c", "tty; echo e >&2")
    assert (done.stdout, done.stderr) == (b"/dev/pts/0\r\ne\r\n", b"")
    refused = busybox_store("run", "--rm", "-it", "--network", "none", "busybox", "sh", code=1)
    assert refused.stderr == b"the input device is not a TTY\n" and busybox_store.text("ps", "-aq") == ""


def test_prune_asks_on_the_terminal(busybox_store: Lamina, name: str) -> None:
    busybox_store("create", "--name", name, "busybox", "true")
    with terminal(busybox_store, "container", "prune") as user:
        user.wait_for(b"[y/N] ")
        user.type(b"n\n")
        user.end()
    assert busybox_store.text("ps", "-a", "--format", "{{.Names}}") == name
    with terminal(busybox_store, "container", "prune") as user:
        user.wait_for(b"[y/N] ")
        user.type(b"y\n")
        user.wait_for(b"Total reclaimed space: ")
        assert user.end() == 0
    assert busybox_store.text("ps", "-aq") == ""


def test_a_build_on_a_terminal_shows_its_steps_live(busybox_store: Lamina, tmp_path: Any) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo from-the-step\n")
    with terminal(busybox_store, "build", "--no-cache", str(tmp_path)) as user:
        user.wait_for(b"RUN echo from-the-step")
        assert user.end() == 0


@pytest.mark.slow
def test_bash_in_debian(debian: Lamina) -> None:
    with terminal(debian, "run", "--rm", "-it", "--network", "none", "debian:bookworm", "bash") as user:
        user.wait_for(b"# ")
        user.type(b"stty size; echo $BASH_VERSION\n")
        user.wait_for(b"33 99\r\n5.")
        user.type(IN_FRONT)
        user.wait_for(b"33 99\r\n")
        user.type(b"\x03")
        user.wait_for(b"# ")
        user.type(b"exit 9\n")
        assert user.end() == 9

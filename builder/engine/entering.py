"""exec: a further process in a running container.

It is made of what the first one was given, which stands in the container's directory since its start; neither image nor
definition is read. What does not run is told here, too. Loads little: a command that is typed, or run by a script, in
every second is mostly loading.
"""

from __future__ import annotations

from builder.engine.options.environment import merged
from runtime import statefile
from runtime.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runtime.container import Launcher, Running


@dataclass(frozen=True, slots=True)
class ExecRequest:
    """A further process in a running container; empty texts mean the container's own."""

    argv: tuple[str, ...]
    env: tuple[str, ...] = ()
    user: str = ""
    workdir: str = ""
    tty: bool = False
    privileged: bool = False
    console_size: tuple[int, int] | None = None


def enter(launcher: Launcher, directory: str, request: ExecRequest, *, streams: tuple[int | None, int, int]) -> Running:
    """Run a process in the container that is kept in *directory*; *streams* are stdin (None: none), stdout, stderr.

    Raises WrongState, ContainerError.
    """
    pid = _running(directory)
    spec = statefile.read(directory, "config.json")["spec"]
    process = spec["process"]
    term = ("TERM=xterm",) if request.tty else ()
    process |= {
        "argv": request.argv,
        "env": merged((*process["env"], *term, *request.env)),
        "user": request.user or process["user"],
        "cwd": request.workdir or process["cwd"],
        "terminal": request.tty,
        "console_size": request.console_size,
    }
    seccomp = spec["seccomp"]
    if request.privileged:
        from runtime.capabilities import ALL

        process["capabilities"] = ALL
        seccomp = "unconfined"
    stdin, stdout, stderr = streams
    return launcher.exec_(pid, process, stdin=stdin, stdout=stdout, stderr=stderr, seccomp=seccomp)


def _running(directory: str) -> int:
    """The pid of the container's first process. Raises WrongState."""
    state = statefile.read(directory, "state.json")
    if state.get("status") == "running" and statefile.alive(directory):
        return int(state["pid"])
    from builder.errors import WrongState
    from runtime import supervisor_client

    found = supervisor_client.state(directory)
    name = directory.rpartition("/")[2]
    if found.status == "paused":
        raise WrongState(f"container {name} is paused, unpause the container before exec")
    if found.status == "restarting":
        raise WrongState(f"Container {name} is restarting, wait until the container is running")
    if found.status != "running":
        raise WrongState(f"container {name} is not running")
    return found.pid

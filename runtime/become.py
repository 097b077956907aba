"""From a prepared process in its namespaces to the user's program: identity, limits, privileges, execve.

The end of both ``init`` and ``enter``. The order is the security; each line says why it stands there.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from runtime import capabilities, targets, users
from runtime.errors import CommandNotFound, CommandNotInvocable, ContainerError, UserNotFound
from runtime.linux import process as kernel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from runtime.spec import Process, Rlimit

_SIGKILL = 9
_FOREIGN = "For other machines' programs the kernel needs an emulator: apt-get install qemu-user-static binfmt-support"


def enter_directory(root: int, cwd: str, *, make: bool) -> None:
    """Go to the working directory, made when missing. No magic link is followed: WORKDIR /proc/self/fd/7 would be a
    way to whatever that descriptor is (CVE-2024-21626). Raises CommandNotFound, CommandNotInvocable."""
    text = f'chdir to cwd ("{cwd}") set in config.json failed'
    try:
        fd = targets.locate(root, cwd, directory=True) if make else targets.find(root, cwd)
        try:
            os.fchdir(fd)
        finally:
            os.close(fd)
    except OSError as err:
        kind = CommandNotFound if err.errno == errno.ENOENT else CommandNotInvocable
        raise kind(f"{text}: {os.strerror(err.errno or 0).lower()}") from err
    try:
        os.getcwd()  # ENOENT: not below our root
    except OSError as err:
        raise ContainerError(
            "current working directory is outside of container mount namespace root"
            " -- possible container breakout detected"
        ) from err


def set_rlimits(limits: tuple[Rlimit, ...]) -> None:
    """Set what may be set: a hard limit above our own needs CAP_SYS_RESOURCE and is lowered to it without."""
    for limit in limits:
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", None)
        if number is None:
            raise ContainerError(f"invalid ulimit type: {limit.name}")
        soft, hard = limit.soft, limit.hard
        try:
            resource.setrlimit(number, (soft, hard))
        except (OSError, ValueError):
            most = resource.getrlimit(number)[1]
            if most != resource.RLIM_INFINITY:
                hard = most if hard < 0 else min(hard, most)
                soft = hard if soft < 0 else min(soft, hard)
            try:
                resource.setrlimit(number, (soft, hard))
            except (OSError, ValueError):
                continue


def execute(process: Process, who: users.Identity, seccomp: bytes | None, before: Callable[[], None]) -> NoReturn:
    """Give up privileges and execute *process*. *before* is called when nothing but exec
    is left (the reaper's fork). Raises ContainerError."""
    bits = capabilities.mask(process.capabilities)
    for fd in (0, 1, 2):  # so that the user may open /dev/stdout again
        status = os.fstat(fd)
        if who.uid and stat.S_ISFIFO(status.st_mode):
            try:
                os.fchown(fd, who.uid, -1)
            except OSError:
                pass
    capabilities.limit_bounding(bits)  # needs SETPCAP, so before anything is dropped
    try:
        os.setgroups(who.groups)  # always, also with one: the launcher's must not stay
    except OSError as err:
        if err.errno != errno.EPERM or not _setgroups_denied():
            raise
    kernel.set_keep_capabilities()  # the filter below needs SYS_ADMIN and the user has none
    try:
        os.setresgid(who.gid, who.gid, who.gid)
        os.setresuid(who.uid, who.uid, who.uid)
    except OSError as err:
        raise UserNotFound(
            f"cannot become user {who.uid}:{who.gid}: {os.strerror(err.errno or 0).lower()}",
            hint="this user namespace has no such id; ids come from /etc/subuid and newuidmap",
        ) from err
    allowed = capabilities.permitted()
    kernel.capset(allowed, allowed, 0)  # effective was lost by setuid
    kernel.set_dumpable(dumpable=False)  # set again by setuid: until exec nobody may look into us (CVE-2019-5736)
    kernel.set_parent_death_signal(_SIGKILL)  # cleared by setuid
    path = find_program(process)
    env = with_home(process.env, who.home)
    os.umask(process.umask)
    if process.no_new_privileges:
        kernel.set_no_new_privileges()
    kernel.close_range(3, cloexec=True)
    if seccomp is not None:
        # seccomp comes last but for what needs no more than the user's program may do, too.
        kernel.seccomp_filter(seccomp)
    capabilities.apply(bits)
    before()
    try:
        os.execve(path, process.argv, env)
    except OSError as err:
        kind = CommandNotFound if err.errno == errno.ENOENT else CommandNotInvocable
        hint = None
        if err.errno == errno.ENOEXEC:
            machine = os.uname().machine
            hint = f"it is no program for this machine ({machine}), and no script that begins with #!. {_FOREIGN}"
        raise kind(f"exec {path}: {os.strerror(err.errno or 0).lower()}", hint=hint) from err


def _setgroups_denied() -> bool:
    with open("/proc/self/setgroups") as file:
        return file.read().strip() == "deny"


def with_home(env: tuple[str, ...], home: str) -> dict[str, str]:
    """The environment with HOME from passwd when it is not set, or set to nothing."""
    found = {}
    for item in env:
        name, _, value = item.partition("=")
        if name:
            found[name] = value
    if not found.get("HOME"):
        found["HOME"] = home
    return found


def find_program(process: Process) -> str:
    """The path to execute, looked up along PATH as the user. Raises CommandNotFound, CommandNotInvocable."""
    if not process.argv or not process.argv[0]:
        raise CommandNotFound("no command specified", hint="give a command, or set CMD or ENTRYPOINT in the image")
    name = process.argv[0]
    if "/" in name:
        problem = _why_not(name)
        if problem == errno.ENOENT:
            raise CommandNotFound(f'exec: "{name}": stat {name}: no such file or directory')
        if problem:
            raise CommandNotInvocable(f'exec: "{name}": {os.strerror(problem).lower()}')
        return name
    denied = 0
    for directory in dict(item.split("=", 1) for item in process.env if "=" in item).get("PATH", "").split(":"):
        path = f"{directory or '.'}/{name}"
        problem = _why_not(path)
        if not problem:
            return path
        if problem == errno.EACCES:
            denied = problem
    if denied:
        raise CommandNotInvocable(f'exec: "{name}": permission denied')
    raise CommandNotFound(f'exec: "{name}": executable file not found in $PATH')


def _why_not(path: str) -> int:
    try:
        mode = os.stat(path).st_mode
    except OSError as err:
        return errno.ENOENT if err.errno in (errno.ENOENT, errno.ENOTDIR) else err.errno or errno.EIO
    if stat.S_ISDIR(mode):
        return errno.EISDIR
    if not mode & 0o111 or not os.access(path, os.X_OK, effective_ids=True):
        return errno.EACCES
    return 0

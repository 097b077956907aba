"""The network of a plain user's container: a program beside it that turns its packets into the user's own connections.

Making interfaces on the host takes root, so there is no bridge: each container is alone behind an address of its own
and reaches the outside, and published ports lead to it. pasta (package passt) is used, else slirp4netns. The host's
loopback is not reachable from inside.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the C part of signal, without its enums; typeshed has none
import _socket as socket
import fcntl
import json
import os
from collections.abc import Sequence

from runtime.errors import NetworkError
from runtime.linux import process
from runtime.ports import PortMapping

ADDRESS, PREFIX, GATEWAY, INTERFACE = "10.0.2.100", 24, "10.0.2.2", "eth0"
_NS_GET_USERNS = 0xB701  # linux/nsfs.h _IO(0xb7, 1)
_SIGKILL, _SIGPIPE, _SIGTERM = 9, 13, 15
_DIRECTORIES = ("/usr/local/bin", "/usr/bin", "/bin")


def needed() -> bool:
    """Whether this process may not configure the network namespace it is in, so that there can be no bridge."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        owner = fcntl.ioctl(fd, _NS_GET_USERNS)
    except PermissionError:
        return True  # a user namespace above ours
    finally:
        os.close(fd)
    try:
        return os.fstat(owner).st_ino != os.stat("/proc/self/ns/user").st_ino
    finally:
        os.close(owner)


def usable() -> bool:
    """Whether one of the programs is there, and this user may make the device that both of them need."""
    return os.access("/dev/net/tun", os.R_OK | os.W_OK) and any(_find(name) for name in ("pasta", "slirp4netns"))


class Helper:
    """The program of one container. It ends with ``stop``, or with the process that started it."""

    def __init__(self, pid: int, exit_fd: int) -> None:
        self._pid, self._exit_fd = pid, exit_fd

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._exit_fd >= 0:
            os.close(self._exit_fd)
            self._exit_fd = -1
        if self._pid > 0:
            os.kill(self._pid, _SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = -1


def start(pid: int, ports: Sequence[PortMapping] = (), *, among: Sequence[str] = ("pasta", "slirp4netns")) -> Helper:
    """Connect the network namespace of process *pid*; returns when it is connected. Raises NetworkError.

    *among*: the programs to choose from, the first one that is installed.
    """
    programs = {name: _find(name) if name in among else "" for name in ("pasta", "slirp4netns")}
    netns = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if programs["pasta"]:
            return _pasta(programs["pasta"], netns, ports)
        if programs["slirp4netns"]:
            return _slirp(programs["slirp4netns"], netns, ports)
    finally:
        os.close(netns)
    raise NetworkError(
        "a network for a plain user needs pasta or slirp4netns",
        hint="install passt or slirp4netns, or use --network host or none",
    )


def _pasta(program: str, netns: int, ports: Sequence[PortMapping]) -> Helper:
    ready, tell = os.pipe2(os.O_CLOEXEC)
    arguments = ["pasta", "--foreground", "--quiet", "--config-net", "--netns-only",
                 "--netns", f"/proc/self/fd/{netns}", "--ns-ifname", INTERFACE,
                 "--address", ADDRESS, "--netmask", str(PREFIX), "--gateway", GATEWAY,
                 "--ipv4-only", "--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none",
                 "--pid", f"/proc/self/fd/{tell}"]  # fmt: skip
    for protocol, option in (("tcp", "--tcp-ports"), ("udp", "--udp-ports")):
        wanted = [mapping for mapping in ports if mapping.protocol == protocol]
        for mapping in wanted:
            address = f"{mapping.host_ip}/" if mapping.host_ip not in ("", "0.0.0.0") else ""
            arguments += [option, f"{address}{mapping.host_port}:{mapping.container_port}"]
        if not wanted:
            arguments += [option, "none"]
    child = _spawn(program, arguments, (netns, tell))
    os.close(tell)
    _wait_ready("pasta", child, ready)
    return Helper(child, -1)


def _slirp(program: str, netns: int, ports: Sequence[PortMapping]) -> Helper:
    ready, tell = os.pipe2(os.O_CLOEXEC)
    exit_read, exit_write = os.pipe2(os.O_CLOEXEC)
    api = f"/tmp/lamina-slirp-{os.urandom(8).hex()}" if ports else ""
    arguments = ["slirp4netns", "--configure", "--disable-host-loopback", "--netns-type=path",
                 f"--ready-fd={tell}", f"--exit-fd={exit_read}", *([f"--api-socket={api}"] if api else []),
                 f"/proc/self/fd/{netns}", INTERFACE]  # fmt: skip
    child = _spawn(program, arguments, (netns, tell, exit_read))
    os.close(tell)
    os.close(exit_read)
    helper = Helper(child, exit_write)
    try:
        _wait_ready("slirp4netns", child, ready)
    except NetworkError:
        os.close(exit_write)
        raise
    try:
        for mapping in ports:
            _forward(api, mapping)
    except (OSError, NetworkError):
        helper.stop()
        raise
    finally:
        if api:
            os.unlink(api)
    return helper


def _forward(api: str, mapping: PortMapping) -> None:
    request = {"execute": "add_hostfwd", "arguments": {
        "proto": mapping.protocol, "host_addr": mapping.host_ip or "0.0.0.0", "host_port": mapping.host_port,
        "guest_port": mapping.container_port}}  # fmt: skip
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(api)
        connection.sendall(json.dumps(request).encode())
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536).decode(errors="replace")
    finally:
        connection.close()
    if '"error"' in answer:
        raise NetworkError(f"cannot publish port {mapping.host_port}: slirp4netns says {answer.strip()}")


def _find(name: str) -> str:
    return next((path for path in (f"{one}/{name}" for one in _DIRECTORIES) if os.access(path, os.X_OK)), "")


def _spawn(program: str, arguments: list[str], keep: Sequence[int]) -> int:
    child = os.fork()
    if child:
        return child
    try:
        process.set_parent_death_signal(_SIGTERM)
        os.setsid()
        _signal.signal(_SIGPIPE, _signal.SIG_DFL)  # Python ignores it, and pasta takes that for a failure
        null = os.open("/dev/null", os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        process.close_range(3, cloexec=True)
        for fd in keep:
            os.set_inheritable(fd, True)  # noqa: FBT003
        os.execve(program, arguments, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    finally:
        os._exit(127)


def _wait_ready(name: str, child: int, ready: int) -> None:
    try:
        told = os.read(ready, 64)
    finally:
        os.close(ready)
    if not told:
        _, status = os.waitpid(child, 0)
        raise NetworkError(
            f"{name} ended with {os.waitstatus_to_exitcode(status)} before it was ready",
            hint="it needs read and write access to /dev/net/tun; a published port may be taken; or use --network host",
        )

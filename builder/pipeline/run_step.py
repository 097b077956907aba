"""RUN: a step's container from its values, its output as it comes, its end as a result or an error.

The container is `runtime.defaults.build_spec` and what the step says. Files of stages and contexts come in as overlays,
secrets as files in memory. Nothing of them reaches the layer.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from builder.errors import BuildError, StepFailed
from builder.pipeline.schedule import StepCancelled, exclusive
from builder.pipeline.sources import secret_bytes
from builder.pipeline.wiring import HOST, NONE
from parser.redact import hidden
from runtime.errors import CommandNotFound, CommandNotInvocable, ContainerError
from runtime.spec import Mount, Namespaces, Process, Rlimit, Rootfs
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.pipeline.request import BuildRequest
    from builder.pipeline.schedule import Cancel
    from builder.pipeline.steps import RunStep
    from builder.pipeline.wiring import Wiring
    from builder.store import Store
    from builder.store.snapshots import Active
    from parser.mounts import RunMount
    from runtime.container import Exit, Launcher, Running
    from runtime.networkstate import Endpoint
    from runtime.spec import Spec

READ_SIZE = 64 << 10
LOCALHOST = "127.0.0.1\tlocalhost buildsandbox\n::1\tlocalhost ip6-localhost ip6-loopback\n"

Lowers = Callable[[int], "tuple[str, ...] | None"]
"""Position of a mount (from 0) → the directories whose files it shows, topmost first; None for an empty one."""


@dataclass(frozen=True, slots=True)
class RunEnvironment:
    """What a RUN needs beside its step: where mounts get their files, its network, and who may stop it.

    `scratch` gives an empty directory that lives as long as the build.
    """

    request: BuildRequest
    store: Store
    launcher: Launcher
    lowers: Lowers
    fill: Callable[[int, Path], None]
    """Position of a cache mount and an empty directory → copies there what its from= and source= name."""
    origin: Callable[[int], str]
    """Position of a cache mount → a digest of what its from= names; "" for a context."""
    wiring: Wiring
    scratch: Callable[[], Path]
    cancel: Cancel
    another: bool
    """Whether a further RUN is going to follow."""
    emulators: tuple[str, ...] = ()
    """The host's files that must be in the container for its programs to run."""


def run(step: RunStep, active: Active, around: RunEnvironment, output: Callable[[int, bytes], None]) -> Exit:
    """Run *step* in *active*; *output* gets (stream, bytes) as they come. Returns how it ended, with code 0.

    Raises StepFailed, BuildError (a required secret is missing), ContainerError, NetworkError, StepCancelled. An
    exception from *output* or a KeyboardInterrupt kills the container first."""
    command = hidden(" ".join(step.argv))
    with ExitStack() as undo:
        mode = around.wiring.mode(step.network)
        endpoint: Endpoint | None = None
        if mode not in (HOST, NONE):
            undo.callback(around.wiring.release, active.key)
            endpoint = around.wiring.reserve(mode, active.key)
        spec = _spec(step, active, around, undo, mode, endpoint)

        def attach(pid: int) -> None:
            assert endpoint is not None
            try:
                around.wiring.attach(endpoint, pid)
            except (FileNotFoundError, ProcessLookupError):
                # It died while it was prepared: the launcher tells why as soon as we are done.
                return

        ends: dict[int, int] = {}
        writers: list[int] = []
        for stream in (1, 2):
            reader, writer = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, reader)
            ends[reader] = stream
            writers.append(writer)
        try:
            running = around.launcher.start(
                spec,
                stdout=writers[0],
                stderr=writers[1],
                network=None if endpoint is None else attach,
                another=around.another,
            )
        except (CommandNotFound, CommandNotInvocable) as err:
            text = f"{err.message}: {err.hint}" if err.hint else err.message
            raise StepFailed("RUN", err.code, command=command, hint=text) from err
        finally:
            for writer in writers:
                os.close(writer)
        with _ending(running):
            _forward(ends, output, around.cancel)
        ended = running.wait()
    if ended.error is not None:
        raise ended.error
    if ended.code != 0:
        hint = None
        if ended.oom_killed:
            hint = "it was killed for using more memory than allowed: raise --memory"
        elif ended.signal == signal.SIGKILL:
            hint = "it was killed from outside, perhaps because the machine ran out of memory"
        raise StepFailed("RUN", ended.code, command=command, hint=hint)
    return ended


def likely(request: BuildRequest) -> Spec:
    """What most steps of the build are like, for `Launcher.warm`; of no use to a step that turns out different."""
    from runtime import defaults

    namespaces = Namespaces(network=HOST if request.network == HOST else NONE)
    spec = defaults.build_spec("likely", Rootfs(), Process(argv=("sh",)), namespaces=namespaces)
    return replace(spec, shm_size=request.shm_size or spec.shm_size, cgroup_parent=request.cgroup_parent)


@contextmanager
def _ending(running: Running) -> Iterator[None]:
    """Kill the container when the block is left by an exception, and wait until nothing of it is left."""
    try:
        yield
    except BaseException:
        running.kill(signal.SIGKILL)
        with suppress(ContainerError):
            running.wait()
        raise


def _forward(ends: dict[int, int], output: Callable[[int, bytes], None], cancel: Cancel) -> None:
    """Read both pipes until their ends; a process left behind by RUN dies with the container and cannot hold them."""
    poller = select.poll()
    poller.register(cancel.fileno(), select.POLLIN)
    for reader in ends:
        poller.register(reader, select.POLLIN)
    left = len(ends)
    while left:
        for fd, _ in poller.poll():
            if fd not in ends:
                raise StepCancelled
            data = os.read(fd, READ_SIZE)
            if data:
                output(ends[fd], data)
            else:
                poller.unregister(fd)
                left -= 1


def _spec(
    step: RunStep, active: Active, around: RunEnvironment, undo: ExitStack, mode: str, endpoint: Endpoint | None
) -> Spec:
    from runtime import defaults

    request = around.request
    env = dict(step.env)
    env.update(step.proxies)
    mounts = [Mount("bind", path, path, ("ro",)) for path in around.emulators]
    for position, mount in enumerate(step.mounts):
        mounts.extend(_mounts(mount, position, around, env, undo))
    if step.script is not None:
        name, text = step.script
        data = text.encode("utf-8", "surrogateescape")
        mounts.append(Mount("file", "", f"/dev/pipes/{name}", ("mode=0755", "ro"), data=data))
    process = Process(
        argv=step.argv,
        env=tuple(f"{name}={value}" for name, value in env.items()),
        cwd=step.workdir,
        user=step.user,
        rlimits=tuple(Rlimit(limit.name, limit.soft, limit.hard) for limit in request.ulimits),
    )
    rootfs = Rootfs(tuple(map(str, active.lowers)), str(active.upper), str(active.work), volatile=True)
    namespaces = Namespaces(network=HOST if mode == HOST else NONE)
    spec = defaults.build_spec(active.key, rootfs, process, namespaces=namespaces)
    if step.insecure:
        spec = defaults.privileged(spec)
    if request.resources is not None:
        limits = request.resources
        spec = replace(spec, resources=replace(limits, pids_limit=limits.pids_limit or spec.resources.pids_limit))
    return replace(
        spec,
        hostname=request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME", spec.hostname),
        mounts=tuple(mounts),
        hosts=_hosts(request, endpoint.gateway if endpoint is not None else ""),
        resolv_conf=around.wiring.resolv_conf(mode),
        shm_size=request.shm_size or spec.shm_size,
        cgroup_parent=request.cgroup_parent,
    )


def _hosts(request: BuildRequest, gateway: str) -> str:
    """The text of /etc/hosts; "host-gateway" stands for *gateway*, the host as the container reaches it."""
    hostname = request.build_args.get("BUILDKIT_SANDBOX_HOSTNAME")
    lines = [LOCALHOST if hostname is None else LOCALHOST.replace("buildsandbox", hostname)]
    for entry in request.add_hosts:
        name, _, address = entry.partition("=" if "=" in entry else ":")
        if address == "host-gateway":
            address = gateway or "127.0.0.1"
        lines.append(f"{address.strip('[]')}\t{name}\n")
    return "".join(lines)


def _mounts(
    mount: RunMount, position: int, around: RunEnvironment, env: dict[str, str], undo: ExitStack
) -> list[Mount]:
    readonly = ("ro",) if mount.readonly else ()
    if mount.type == "tmpfs":
        size = (f"size={mount.size}",) if mount.size else ()
        return [Mount("tmpfs", "", mount.target, (*size, *readonly))]
    if mount.type == "secret":
        return _secret(mount, around, env)
    if mount.type == "ssh":
        return _ssh(mount, around, env, undo)
    if mount.type == "cache":
        return [_cache(mount, position, around, undo)]
    lowers = around.lowers(position) or (str(around.store.layout.directory("empty")),)
    rootfs = Rootfs(lowers, readonly=mount.readonly)
    return [Mount("overlay", "", mount.target, readonly, subpath=mount.source.strip("/"), rootfs=rootfs)]


def _secret(mount: RunMount, around: RunEnvironment, env: dict[str, str]) -> list[Mount]:
    secret = next((one for one in around.request.secrets if one.id == mount.id), None)
    if secret is None:
        if mount.required:
            raise BuildError(f"secret {mount.id}: not found", hint=f"give it with --secret id={mount.id},src=FILE")
        return []
    data = secret_bytes(secret)
    if mount.env is not None:
        env[mount.env] = data.decode("utf-8", "surrogateescape")
    if not mount.target:
        return []
    mode = 0o400 if mount.mode is None else mount.mode
    options = (f"mode={mode:04o}", f"uid={mount.uid or 0}", f"gid={mount.gid or 0}", "ro")
    return [Mount("file", "", mount.target, options, data=data)]


def _ssh(mount: RunMount, around: RunEnvironment, env: dict[str, str], undo: ExitStack) -> list[Mount]:
    """The agent's socket, by way of one of ours that has the owner and mode that the step wants."""
    env.setdefault("SSH_AUTH_SOCK", mount.target)  # as BuildKit does, also when no agent was given
    agent = next((one for one in around.request.ssh if one.id == mount.id), None)
    if agent is None:
        if mount.required:
            raise BuildError(f"no SSH key {mount.id!r} forwarded from the client", hint="give an agent with --ssh")
        return []
    from builder.pipeline.relay import Relay

    place = around.scratch() / "agent.sock"
    undo.enter_context(Relay(place, agent.socket))
    place.chmod(0o600 if mount.mode is None else mount.mode)
    os.chown(place, mount.uid or 0, mount.gid or 0)
    return [Mount("bind", str(place), mount.target)]


def _cache(mount: RunMount, position: int, around: RunEnvironment, undo: ExitStack) -> Mount:
    """The directory of a cache mount; its name is a digest, so an id can say nothing about paths.

    What a cache starts with is part of its name, as with docker: other files, or another owner or mode, are another
    cache. A new one starts as a copy of what from= names. A private one that is in use stays with its user: the next
    gets another.
    """
    import hashlib

    named = [mount.id, mount.from_]
    if mount.from_:
        named.append(f"{around.origin(position)} {mount.source.strip('/')}")
    if space := around.request.build_args.get("BUILDKIT_CACHE_MOUNT_NS"):
        named.append(f"namespace {space}")
    if mount.source.strip("/") == "" and (mount.uid, mount.gid, mount.mode) != (None, None, None):
        named.append(f"{mount.uid or 0}:{mount.gid or 0}:{0o755 if mount.mode is None else mount.mode:o}")
    name = hashlib.sha256("\0".join(named).encode("utf-8", "surrogateescape")).hexdigest()[:32]
    locks = around.store.locks
    if mount.sharing == "locked":
        undo.enter_context(exclusive(around.store, f"cache {name}", around.cancel))
    elif mount.sharing == "private":
        number = 0
        while not undo.enter_context(locks.attempt(f"cache {name} {number}")):
            number += 1
        name = f"{name}-{number}" if number else name
    around.store.lease().protect("cache", [name])
    path = around.store.caches_dir / name
    with locks.hold(f"new cache {name}"):
        if not path.is_dir():
            _make_cache(path, mount, position, around)
    around.store.cache_mounts.note_use(name, mount.id, mount.from_)
    options = ("ro",) if mount.readonly else ()
    return Mount("bind", str(path), mount.target, options, subpath=mount.source.strip("/") if not mount.from_ else "")


def _make_cache(path: Path, mount: RunMount, position: int, around: RunEnvironment) -> None:
    """Appears with its contents or not at all."""
    made = around.scratch() / "cache"
    if not mount.from_:
        made.mkdir()
        os.chmod(made, 0o755 if mount.mode is None else mount.mode)
        os.chown(made, mount.uid or 0, mount.gid or 0)
    else:
        made.mkdir()
        around.fill(position, made)
    made.rename(path)

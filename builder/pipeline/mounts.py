"""What `RUN --mount`, `--network` and `--security` come to: defaults filled in, targets absolute, permission checked.

Pure; `run_step` makes mounts of a container from these values. Defaults are BuildKit's.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from builder.pipeline.config_step import join_clean
from parser.errors import DockerfileError, did_you_mean
from parser.mounts import parse_mount
from runtime.values import replace

if TYPE_CHECKING:
    from builder.pipeline.request import BuildRequest
    from parser.mounts import RunMount

SECRET_DIRECTORY = "/run/secrets"
NETWORK_MODES = ("default", "none", "host")
SECURITY_MODES = ("sandbox", "insecure")


def resolve_mounts(texts: Iterable[str], expand: Callable[[str], str], *, workdir: str) -> tuple[RunMount, ...]:
    """The `--mount` values of one RUN. Raises DockerfileError without a place."""
    found: list[RunMount] = []
    for raw in texts:
        agents = sum(mount.type == "ssh" for mount in found)
        found.append(resolve_mount(raw, expand, workdir=workdir, agents=agents))
    return tuple(found)


def resolve_mount(raw: str, expand: Callable[[str], str], *, workdir: str, agents: int = 0) -> RunMount:
    """One `--mount` value, before which *agents* others were of type ssh.

    A secret that only sets a variable has no target; without one the others lie on the working directory. Raises
    DockerfileError without a place."""
    mount = parse_mount(raw, expand)
    target = mount.target
    if mount.type == "secret":
        name = mount.id or mount.source or posixpath.basename(target)
        mount = replace(mount, id=name, source="")
        if not target and mount.env is None:
            target = f"{SECRET_DIRECTORY}/{posixpath.basename(name)}"
    elif mount.type == "ssh":
        mount = replace(mount, id=mount.id or "default")
        target = target or f"/run/buildkit/ssh_agent.{agents}.sock"
    if target or mount.type != "secret":
        target = join_clean(workdir, target)
        if target == "/":
            raise DockerfileError('invalid mount target "/"', hint="target= names a path below the root")
    if mount.type == "cache" and not mount.id:
        mount = replace(mount, id=posixpath.normpath(mount.target))
    return replace(mount, target=target)


def check_network(mode: str | None, request: BuildRequest) -> str:
    """The network of a RUN with `--network=mode` (None: not given). Raises DockerfileError without a place."""
    if mode is None or mode == "default":
        return request.network or "default"
    if mode not in NETWORK_MODES:
        raise DockerfileError(f'unsupported network mode "{mode}"', hint=did_you_mean(mode, NETWORK_MODES))
    if mode == "host" and request.network != "host" and "network.host" not in request.allow:
        raise DockerfileError("network.host is not allowed", hint="allow it with --allow network.host")
    return mode


def check_security(mode: str | None, request: BuildRequest) -> bool:
    """Whether a RUN with `--security=mode` runs without its sandbox. Raises DockerfileError without a place."""
    if mode is None or mode == "sandbox":
        return False
    if mode not in SECURITY_MODES:
        raise DockerfileError(f'security mode "{mode}" is not valid', hint=did_you_mean(mode, SECURITY_MODES))
    if "security.insecure" not in request.allow:
        raise DockerfileError("security.insecure is not allowed", hint="allow it with --allow security.insecure")
    return True

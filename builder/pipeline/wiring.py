"""The network of RUN steps: what a mode means on this host, and an endpoint for each step that wants one.

As root the default is the bridge of this store with NAT to the outside. A plain user cannot make interfaces on the
host: his steps get a network by pasta or slirp4netns, and use the host's as it is where neither is installed. An
endpoint belongs to this process: should it be killed, the next command that needs the network takes it back.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.networks import Networks
    from runtime.networkstate import Endpoint

HOST = "host"
NONE = "none"
_RESOLVER_FILES = ("/run/systemd/resolve/resolv.conf", "/etc/resolv.conf")


class Wiring:
    """The networks of one store, for one build. May be used by several threads; reads nothing before it is needed."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = directory
        self._guard = threading.Lock()
        self._networks: Networks | None = None
        self._outside: bool | None = None

    def mode(self, wanted: str) -> str:
        """ "host", "none", or the name of a network of ours, for a step that asks for *wanted*."""
        if wanted in (HOST, NONE):
            return wanted
        if self._outside is None:
            from runtime import usernet

            self._outside = usernet.needed() and not usernet.usable()
        if self._outside:
            return HOST
        return "bridge" if wanted in ("default", "") else wanted

    def reserve(self, network: str, container: str) -> Endpoint:
        """Take an address for *container*. Raises NetworkNotFound, NetworkError."""
        from runtime.endpoints import EndpointRequest

        return self._there().reserve(EndpointRequest(network=network, container=container))

    def attach(self, endpoint: Endpoint, pid: int) -> None:
        """Wire the network namespace of process *pid*. Raises NetworkError, OSError."""
        self._there().attach(endpoint, pid)

    def release(self, container: str) -> None:
        """Give back what *container* held; its network namespace has ended, or is about to.

        When the disk is full the next one takes it back, who finds that we have ended: how the step ended counts more.
        """
        from runtime.errors import NetworkError

        with suppress(NetworkError):
            self._there().release(container, unwire=False)

    def resolv_conf(self, mode: str) -> str:
        """The text of /etc/resolv.conf for a step: the host's, without resolvers that it could not reach."""
        from runtime import names

        text = _read(_RESOLVER_FILES[1])
        if mode == HOST:
            return text
        servers = names.parse_resolv_conf(text)["nameserver"]
        if servers and all(server.startswith("127.") for server in servers) and os.path.exists(_RESOLVER_FILES[0]):
            text = _read(_RESOLVER_FILES[0])
        return names.resolv_conf(text)

    def _there(self) -> Networks:
        with self._guard:
            if self._networks is None:
                from runtime.networks import Networks

                self._networks = Networks(self._directory)
            return self._networks


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""

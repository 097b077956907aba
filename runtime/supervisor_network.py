"""How a supervisor connects its container: addresses, interfaces, names.

What that needs is loaded only for containers that join networks.
"""

from __future__ import annotations

from runtime import names
from runtime.errors import ContainerError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from runtime.loop import Loop
    from runtime.networks import Networks
    from runtime.networkstate import Endpoint
    from runtime.resolver import Resolver

_MOST = 1 << 20
"""Bytes of /etc/hosts that are taken from another container."""


class Wiring:
    """The endpoints of one run of the container."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._container = ""
        self._networks: Networks | None = None
        self._endpoints: list[Endpoint] = []
        self._upstream: tuple[str, ...] = ()
        self._resolv_conf = ""
        self._resolver: Resolver | None = None

    @property
    def wanted(self) -> bool:
        """Whether there is something to attach."""
        return bool(self._endpoints)

    def reserve(self, config: Mapping[str, Any]) -> tuple[str, str]:
        """Take addresses and host ports; the texts of /etc/hosts and /etc/resolv.conf. Raises NetworkError."""
        self._container = config["spec"]["id"]
        if config["endpoints"]:
            from runtime.endpoints import EndpointRequest
            from runtime.networks import Networks
            from runtime.ports import PortMapping

            self._networks = Networks(config["networks_directory"])
            for wanted in config["endpoints"]:
                ports = tuple(PortMapping(**port) for port in wanted["ports"])
                request = EndpointRequest(**{**wanted, "ports": ports, "aliases": tuple(wanted["aliases"])})
                self._endpoints.append(self._networks.reserve(request))
        hosts, self._resolv_conf = self._files(config)
        return hosts, self._resolv_conf

    def attach(self, pid: int) -> None:
        """Connect the namespace of the process *pid*, and answer for names there."""
        if self._networks is None:
            return
        for endpoint in self._endpoints:
            self._networks.attach(endpoint, pid)
        if any(endpoint.network != "bridge" for endpoint in self._endpoints):
            self._resolve(self._networks, pid)

    def refresh(self, config: Mapping[str, Any], pid: int) -> None:
        """The container may have joined a network of a user's meanwhile: from then on names are answered there."""
        if self._networks is None or self._resolver is not None:
            return
        mine = [each for each in self._networks.endpoints() if each.container == self._container]
        if all(endpoint.network == "bridge" for endpoint in mine):
            return
        text = self._embedded(config, mine)
        self._resolve(self._networks, pid)
        _replace(pid, "etc/resolv.conf", self._resolv_conf, text)
        self._resolv_conf = text

    def _resolve(self, networks: Networks, pid: int) -> None:
        from runtime.resolver import Resolver

        self._resolver = Resolver(self._loop, networks, self._container, self._upstream, pid)

    def _embedded(self, config: Mapping[str, Any], endpoints: Sequence[Endpoint]) -> str:
        host = _read("/etc/resolv.conf")
        # Who is on internal networks only is told nothing from outside.
        open_ = any(not endpoint.internal for endpoint in endpoints)
        self._upstream = names.upstream_servers(host, config["dns"]) if open_ else ()
        return names.embedded_resolv_conf(host, search=config["dns_search"], options=config["dns_options"])

    def release(self) -> None:
        """Give everything back; the container has ended. Idempotent."""
        if self._resolver is not None:
            self._resolver.close()
            self._resolver = None
        if self._networks is not None:
            # The kernel removes the interfaces with the namespace, faster than we could.
            try:
                self._networks.release(self._container, unwire=False)
            except ContainerError:
                pass  # a full disk: who comes next finds that we have ended, and takes it back
            self._networks = None
        self._endpoints = []

    def _files(self, config: Mapping[str, Any]) -> tuple[str, str]:
        spec = config["spec"]
        network: str = spec["namespaces"]["network"]
        if network.startswith("/"):
            return _shared(network.split("/")[2])
        gateway = self._endpoints[0].gateway if self._endpoints else ""
        extra = names.extra_hosts([(name, ip) for name, ip in config["hosts"]], gateway)
        host = _read("/etc/resolv.conf")
        servers, search, options = config["dns"], config["dns_search"], config["dns_options"]
        if network == "host":
            hosts = _read("/etc/hosts") + "".join(f"{ip}\t{name}\n" for ip, name in extra)
            if servers or search or options:
                known = servers or names.parse_resolv_conf(host)["nameserver"]
                host = names.resolv_conf(host, servers=known, search=search, options=options)
            return hosts, host
        own = [(endpoint.ip, names.own_names(spec["hostname"], spec["domainname"])) for endpoint in self._endpoints]
        hosts = names.hosts_file(extra, own)
        if all(endpoint.network == "bridge" for endpoint in self._endpoints):
            return hosts, names.resolv_conf(host, servers=servers, search=search, options=options)
        return hosts, self._embedded(config, self._endpoints)


def _shared(pid: str) -> tuple[str, str]:
    """The two files of the container that the process *pid* is in, which may have put anything in their place."""
    import os

    from runtime import targets

    texts = []
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        for path in ("etc/hosts", "etc/resolv.conf"):
            try:
                texts.append(targets.read(root, path, _MOST))
            except OSError:
                texts.append("")
    finally:
        os.close(root)
    return texts[0], texts[1]


def _replace(pid: int, path: str, before: str, after: str) -> None:
    """Write a file of the container that the process *pid* is in, unless something else than *before* is there."""
    import os

    from runtime import targets

    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)
    try:
        if targets.read(root, path, _MOST) != before:
            return  # as docker: who wrote it meanwhile knows better
        fd = targets.find(root, path, os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            os.write(fd, after.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
    except OSError:
        return  # it has been removed, or is not ours to write
    finally:
        os.close(root)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""

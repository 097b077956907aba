"""The name server of one container on user-defined networks: 127.0.0.11, inside its network namespace.

It answers for the containers on the same networks, by name, alias and short id, and passes everything else on to the
host's resolvers, from the host's side. It belongs to the supervisor's loop. The sockets have high ports that a rule in
the namespace leads port 53 to, so that a container may run a name server of its own on every address.
"""

from __future__ import annotations

import os
from _socket import (
    AF_INET,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SO_ERROR,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)
from select import POLLIN, POLLOUT
from struct import pack, unpack

from runtime import dnsmessage, interfaces
from runtime.linux import nftables as nft
from runtime.names import EMBEDDED_SERVER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runtime.loop import Loop
    from runtime.networks import Networks
    from runtime.networkstate import Endpoint

_PORT = 53
_PATIENCE = 3.0  # seconds per server
_LARGEST = 65535
_MOST = 256


class Resolver:
    """Serves until ``close``. *container* is its id, *upstream* the servers to ask, *pid* whose namespace it is in."""

    def __init__(self, loop: Loop, networks: Networks, container: str, upstream: Sequence[str], pid: int) -> None:
        self._loop, self._networks, self._container, self._upstream = loop, networks, container, tuple(upstream)
        self._asked: dict[int, _Asked] = {}
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            with interfaces.inside(namespace):
                self._udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
                self._udp.bind((EMBEDDED_SERVER, 0))
                self._tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK)
                self._tcp.bind((EMBEDDED_SERVER, 0))
                self._tcp.listen(16)
                rules = tuple(
                    nft.destination(EMBEDDED_SERVER)
                    + nft.destination_port(protocol, _PORT)
                    + nft.destination_nat(EMBEDDED_SERVER, port)
                    for protocol, port in (("udp", self._udp.getsockname()[1]), ("tcp", self._tcp.getsockname()[1]))
                )
                with nft.open_netfilter() as netfilter:
                    chain = nft.Chain("output", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DNAT, rules)
                    nft.replace_table(netfilter, "lamina-names", (chain,), mark=b"")
        finally:
            os.close(namespace)
        loop.watch(self._udp.fileno(), self._datagram)
        loop.watch(self._tcp.fileno(), self._connection)

    def close(self) -> None:
        """Stop serving."""
        for asked in tuple(self._asked.values()):
            asked.close()
        for sock in (self._udp, self._tcp):
            self._loop.forget(sock.fileno())
            sock.close()

    def _datagram(self, _: int) -> None:
        try:
            message, sender = self._udp.recvfrom(_LARGEST)
        except OSError:
            return

        def reply(data: bytes) -> None:
            try:
                self._udp.sendto(data, sender)
            except OSError:
                return  # who asked is gone

        self._ask(message, reply, stream=False)

    def _connection(self, _: int) -> None:
        try:
            fd, _ = self._tcp._accept()  # type: ignore[attr-defined]  # without the class of the module socket
        except OSError:
            return
        sock = socket(AF_INET, SOCK_STREAM, IPPROTO_TCP, fd)
        os.set_inheritable(fd, False)  # noqa: FBT003
        sock.setblocking(False)  # noqa: FBT003
        received = bytearray()

        def close() -> None:
            self._loop.forget(fd)
            sock.close()

        def reply(data: bytes) -> None:
            try:
                sock.send(pack(">H", len(data)) + data)
            except OSError:
                pass  # who asked is gone
            close()

        def readable(_: int) -> None:
            try:
                part = sock.recv(_LARGEST)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            received.extend(part)
            if not part or len(received) > _LARGEST:
                close()
            elif len(received) >= 2 and len(received) - 2 >= unpack(">H", received[:2])[0]:
                self._loop.forget(fd)
                self._ask(bytes(received[2:]), reply, stream=True)

        self._loop.watch(fd, readable)

    def _ask(self, message: bytes, reply: Callable[[bytes], None], *, stream: bool) -> None:
        question = dnsmessage.parse(message)
        if question is not None:
            records = self._own(question)
            if records is not None:
                reply(dnsmessage.answer(message, question, records))
                return
        if len(self._asked) >= _MOST or not self._upstream:
            if question is not None:
                reply(dnsmessage.answer(message, question, [], code=dnsmessage.SERVER_FAILURE))
            return
        _Asked(self._loop, self._asked, self._upstream, message, reply, stream=stream)

    def _own(self, question: dnsmessage.Question) -> list[bytes] | None:
        """The records that we know, empty when the name is ours and has none of that kind; None when it is not ours."""
        everybody = self._networks.endpoints()
        mine = {each.network_id for each in everybody if each.container == self._container and each.network != "bridge"}
        known = [each for each in everybody if each.network_id in mine]
        if question.kind == dnsmessage.PTR:
            ip = dnsmessage.reversed_address(question.name)
            found = [dnsmessage.pointer(f"{each.name}.{each.network}") for each in known if each.ip == ip]
            return found or None
        ips = sorted({each.ip for each in known if question.name in names_of(each)})
        if not ips:
            return None
        return [dnsmessage.address(ip) for ip in ips] if question.kind == dnsmessage.A else []


def names_of(endpoint: Endpoint) -> frozenset[str]:
    """What a container is called on a network, in lower case: each name also with the network's behind it."""
    bare = {name.lower() for name in (endpoint.name, endpoint.container[:12], *endpoint.aliases) if name}
    return frozenset(bare | {f"{name}.{endpoint.network.lower()}" for name in bare})


class _Asked:
    """A question on its way to the host's servers, one after the other."""

    def __init__(
        self, loop: Loop, table: dict[int, _Asked], servers: tuple[str, ...], message: bytes,
        reply: Callable[[bytes], None], *, stream: bool,
    ) -> None:  # fmt: skip
        self._loop, self._table, self._servers, self._message, self._reply = loop, table, servers, message, reply
        self._stream = stream
        self._received = bytearray()
        self._sock: socket | None = None
        table[id(self)] = self
        self._next()

    def close(self) -> None:
        """Give up; nobody is told."""
        self._table.pop(id(self), None)
        self._loop.cancel(f"name {id(self)}")
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None

    def _next(self) -> None:
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None
        if not self._servers:
            question = dnsmessage.parse(self._message)
            self.close()
            if question is not None:
                self._reply(dnsmessage.answer(self._message, question, [], code=dnsmessage.SERVER_FAILURE))
            return
        server, *rest = self._servers
        self._servers = tuple(rest)
        kind, protocol = (SOCK_STREAM, IPPROTO_TCP) if self._stream else (SOCK_DGRAM, IPPROTO_UDP)
        self._sock = sock = socket(AF_INET, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol)
        self._received.clear()
        self._loop.at(f"name {id(self)}", _PATIENCE, self._next)
        try:
            sock.connect((server, _PORT))
        except BlockingIOError:
            pass
        except OSError:
            self._next()
            return
        self._loop.watch(sock.fileno(), self._writable, POLLOUT)

    def _writable(self, _: int) -> None:
        sock = self._sock
        if sock is None:
            return
        try:
            if sock.getsockopt(SOL_SOCKET, SO_ERROR):
                self._next()
                return
            sock.send(pack(">H", len(self._message)) + self._message if self._stream else self._message)
        except OSError:
            self._next()
            return
        self._loop.watch(sock.fileno(), self._readable, POLLIN)

    def _readable(self, _: int) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_LARGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if self._stream:
            self._received += data
            if data and (len(self._received) < 2 or len(self._received) - 2 < unpack(">H", self._received[:2])[0]):
                return
            data = bytes(self._received[2:]) if data else b""
        if not data:
            self._next()
        elif data[:2] == self._message[:2]:  # the socket is connected: it is from whom we asked
            self.close()
            self._reply(data)

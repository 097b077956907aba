"""Names inside containers: the texts of /etc/hosts and /etc/resolv.conf. Pure; the responder is `runtime.resolver`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

EMBEDDED_SERVER = "127.0.0.11"

_LOCAL = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::", "ip6-localnet"),
    ("ff00::", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
# Docker's choice when the host has none that a container can reach.
_FALLBACK = ("8.8.8.8", "8.8.4.4")


def hosts_file(entries: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]] = ()) -> str:
    """The text of /etc/hosts in docker's layout: localhost lines, *entries* (``--add-host``), then the container's own.

    Both are (ip, names) pairs, names separated by blanks.
    """
    return "".join(f"{ip}\t{names}\n" for ip, names in (*_LOCAL, *entries, *own))


def extra_hosts(hosts: Sequence[tuple[str, str]], gateway: str) -> tuple[tuple[str, str], ...]:
    """``--add-host`` values (name, address) as (ip, name) lines; ``host-gateway`` stands for *gateway*."""
    return tuple((gateway or "127.0.0.1" if ip == "host-gateway" else ip, name) for name, ip in hosts)


def own_names(hostname: str, domainname: str = "") -> str:
    """The names on the container's own line: ``web.example.org web``."""
    whole = f"{hostname}.{domainname}" if domainname else hostname
    short = hostname if domainname else hostname.partition(".")[0]
    return whole if whole == short else f"{whole} {short}"


def resolv_conf(
    host: str, *, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """The text of /etc/resolv.conf: *host* is the host's file; loopback resolvers are left out, as docker does.

    Given servers, search domains or options replace the host's. ``search`` of ``(".",)`` means none.
    """
    found = parse_resolv_conf(host)
    usable = tuple(server for server in found["nameserver"] if not _loopback(server))
    lines = [f"nameserver {server}" for server in servers or usable or _FALLBACK]
    domains = search or found["search"]
    if domains and tuple(domains) != (".",):
        lines.append("search " + " ".join(domains))
    if options or found["options"]:
        lines.append("options " + " ".join(options or found["options"]))
    return "\n".join(lines) + "\n"


def embedded_resolv_conf(host: str, *, search: Sequence[str] = (), options: Sequence[str] = ()) -> str:
    """The text of /etc/resolv.conf where `runtime.resolver` answers: user-defined networks."""
    # ndots:0 as docker has it: container names have no dot and must be asked as they are.
    given = tuple(options) or tuple(o for o in parse_resolv_conf(host)["options"] if not o.startswith("ndots"))
    if not any(option.startswith("ndots") for option in given):
        given = (*given, "ndots:0")
    return resolv_conf(host, servers=(EMBEDDED_SERVER,), search=search, options=given)


def upstream_servers(host: str, servers: Sequence[str] = ()) -> tuple[str, ...]:
    """Where to forward what is not a container's name; asked from the host, so its loopback resolvers count too."""
    return tuple(servers) or parse_resolv_conf(host)["nameserver"] or _FALLBACK


def parse_resolv_conf(text: str) -> dict[str, tuple[str, ...]]:
    """``nameserver`` (all lines), ``search`` and ``options`` (the last line counts), comments dropped."""
    servers: list[str] = []
    found: dict[str, tuple[str, ...]] = {"search": (), "options": ()}
    for line in text.splitlines():
        words = line.split("#", 1)[0].split(";", 1)[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            servers.append(words[1])
        elif words[0] in ("search", "domain"):
            found["search"] = tuple(words[1:])
        elif words[0] == "options":
            found["options"] = tuple(words[1:])
    return {**found, "nameserver": tuple(servers)}


def _loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"

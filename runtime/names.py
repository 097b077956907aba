"""Names inside containers: /etc/hosts, /etc/resolv.conf, and the DNS responder of user-defined networks."""

from __future__ import annotations

from collections.abc import Sequence


def hosts_file(entries: Sequence[tuple[str, str]], own: Sequence[tuple[str, str]]) -> str:
    """The text of /etc/hosts in docker's layout: localhost lines, *entries* (``--add-host``), then the container's own.

    Both are (ip, names) pairs, names separated by blanks.
    """
    raise NotImplementedError


def resolv_conf(
    host: str, *, servers: Sequence[str] = (), search: Sequence[str] = (), options: Sequence[str] = ()
) -> str:
    """The text of /etc/resolv.conf: *host* is the host's file; loopback resolvers are left out, as docker does.

    Given servers, search domains or options replace the host's.
    """
    raise NotImplementedError

"""The texts of /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

from runtime import names

HOST = "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.1 # inline\nsearch a.org b.org\noptions edns0 ndots:2\n"


def test_hosts() -> None:
    extra = names.extra_hosts((("web", "10.0.0.9"), ("host", "host-gateway")), "172.30.0.1")
    text = names.hosts_file(extra, (("172.30.0.2", names.own_names("box", "example.org")),))
    lines = text.splitlines()
    assert lines[:2] == ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"]
    assert lines[-3:] == ["10.0.0.9\tweb", "172.30.0.1\thost", "172.30.0.2\tbox.example.org box"]


def test_loopback_servers_of_the_host_are_left_out() -> None:
    assert names.resolv_conf(HOST) == "nameserver 10.0.0.1\nsearch a.org b.org\noptions edns0 ndots:2\n"
    assert names.resolv_conf("nameserver ::1\n") == "nameserver 8.8.8.8\nnameserver 8.8.4.4\n"


def test_a_dotted_name_is_known_by_its_first_part_too() -> None:
    assert names.own_names("a.b.c") == "a.b.c a" and names.own_names("a") == "a"


def test_what_is_given_replaces_the_hosts() -> None:
    text = names.resolv_conf(HOST, servers=("1.1.1.1",), search=("x.org",), options=("rotate",))
    assert text == "nameserver 1.1.1.1\nsearch x.org\noptions rotate\n"
    assert "search" not in names.resolv_conf(HOST, search=(".",))


def test_the_embedded_server() -> None:
    text = names.embedded_resolv_conf(HOST)
    assert text == "nameserver 127.0.0.11\nsearch a.org b.org\noptions edns0 ndots:0\n"
    assert names.embedded_resolv_conf(HOST, options=("ndots:3",)).endswith("options ndots:3\n")
    assert names.upstream_servers(HOST) == ("127.0.0.53", "10.0.0.1")
    assert names.upstream_servers(HOST, ("9.9.9.9",)) == ("9.9.9.9",)
    assert names.upstream_servers("") == ("8.8.8.8", "8.8.4.4")

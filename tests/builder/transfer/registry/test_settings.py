"""Files that say something about registries, and what they come to."""

from pathlib import Path

import pytest

from builder.errors import InvalidDocument, InvalidInput, RegistryBlocked
from builder.oci.references import Reference
from builder.transfer.registry import settings
from builder.transfer.registry.endpoints import HUB, endpoints


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def load(tmp_path: Path):
    def loaded(**variables: str) -> settings.Settings:
        return settings.load({"HOME": str(tmp_path / "home"), **variables}, etc=tmp_path / "etc")

    return loaded


def places(load, name: str, *, push: bool = False) -> list[tuple[str, str, str, bool]]:
    found = endpoints(Reference.parse(name), load(), push=push)
    return [(each.scheme, each.host, each.repository, each.insecure) for each in found]


def test_without_files_an_image_is_at_its_registry_and_loopback_is_insecure(load) -> None:
    assert places(load, "busybox") == [("", HUB, "library/busybox", False)]
    assert places(load, "r.test:5000/a/b:1") == [("", "r.test:5000", "a/b", False)]
    for host in ("localhost", "localhost:5000", "127.0.0.1:1", "127.9.9.9", "[::1]:5000"):
        assert places(load, f"{host}/a") == [("", host, "a", True)]


def test_mirrors_of_a_daemon_json_come_first_for_docker_io_only(load, tmp_path: Path) -> None:
    write(
        tmp_path / "etc/docker/daemon.json",
        '{"registry-mirrors": ["https://one.test/hub/", "http://two.test:5000"], "log-level": "x",'
        ' "insecure-registries": ["r.test", "http://s.test:5000", "10.1.0.0/16"]}',
    )
    assert places(load, "busybox") == [
        ("https", "one.test", "hub/library/busybox", False),
        ("http", "two.test:5000", "library/busybox", True),
        ("", HUB, "library/busybox", False),
    ]
    assert places(load, "busybox", push=True) == [("", HUB, "library/busybox", False)]
    insecure = {host: places(load, f"{host}/a")[0][3] for host in ("r.test", "s.test:5000", "10.1.2.3:80", "10.2.0.1")}
    assert insecure == {"r.test": True, "s.test:5000": True, "10.1.2.3:80": True, "10.2.0.1": False}


def test_the_users_file_goes_before_the_systems(load, tmp_path: Path) -> None:
    write(tmp_path / "etc/lamina/daemon.json", '{"registry-mirrors": ["https://system.test"]}')
    write(tmp_path / "home/.config/lamina/daemon.json", '{"registry-mirrors": ["https://mine.test"]}')
    assert places(load, "busybox")[0][1] == "mine.test"


def test_registries_conf_rewrites_mirrors_and_blocks(load, tmp_path: Path) -> None:
    write(
        tmp_path / "etc/containers/registries.conf",
        """
unqualified-search-registries = ["x.test"]
[[registry]]
prefix = "r.test/team"
location = "inner.test/mirror"
insecure = true
[[registry.mirror]]
location = "near.test/team"
[[registry.mirror]]
location = "pinned.test"
pull-from-mirror = "digest-only"
[[registry]]
location = "bad.test"
blocked = true
[[registry]]
prefix = "*.wild.test"
insecure = true
""",
    )
    write(
        tmp_path / "etc/containers/registries.conf.d/10.conf", '[[registry]]\nlocation = "worse.test"\nblocked = true\n'
    )
    assert places(load, "r.test/team/app:1") == [
        ("", "near.test", "team/app", False),
        ("", "inner.test", "mirror/app", True),
    ]
    digest = "sha256:" + 64 * "a"
    assert [each[1] for each in places(load, f"r.test/team/app@{digest}")] == ["near.test", "pinned.test", "inner.test"]
    assert places(load, "r.test/teams/app") == [("", "r.test", "teams/app", False)]
    assert places(load, "a.wild.test/x") == [("", "a.wild.test", "x", True)]
    for name in ("bad.test/x", "worse.test/x"):
        with pytest.raises(RegistryBlocked, match=r"is blocked by .*registries\.conf"):
            places(load, name)


def test_a_host_with_an_authority_of_its_own_is_not_insecure(load, tmp_path: Path) -> None:
    write(tmp_path / "etc/docker/certs.d/127.0.0.1:5000/ca.crt", "")
    assert places(load, "127.0.0.1:5000/a") == [("", "127.0.0.1:5000", "a", False)]


@pytest.mark.parametrize(
    "name, text",
    [
        ("docker/daemon.json", "{"),
        ("docker/daemon.json", '{"registry-mirrors": "x"}'),
        ("docker/daemon.json", '{"registry-mirrors": ["ftp://x"]}'),
        ("docker/daemon.json", '{"registry-mirrors": ["https://user:pw@x"]}'),
        ("containers/registries.conf", "[registries.search]\nregistries = []"),
        ("containers/registries.conf", "[[registry"),
        ("containers/registries.conf", '[[registry]]\nlocation = "https://x"'),
        ("containers/registries.conf", "[[registry]]\ninsecure = true"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_file(load, tmp_path: Path, name: str, text: str) -> None:
    path = write(tmp_path / "etc" / name, text)
    with pytest.raises((InvalidInput, InvalidDocument)) as error:
        load()
    assert str(path) in error.value.message


def test_proxies_come_from_the_environment_and_spare_loopback(load, tmp_path: Path) -> None:
    write(tmp_path / "etc/docker/daemon.json", '{"proxies": {"https-proxy": "p.test:1", "no-proxy": "x.test"}}')
    assert load().proxy("https", "r.test:5000") == "http://p.test:1"
    assert (
        load().proxy("https", "x.test") == load().proxy("http", "r.test") == load().proxy("https", "127.0.0.1:1") == ""
    )
    found = load(HTTPS_PROXY="http://q.test", no_proxy=".corp.test, 10.0.0.0/8")
    assert found.proxy("https", "10.1.2.3:5000") == "" != found.proxy("https", "11.1.2.3:5000")
    assert found.proxy("https", "r.test") == "http://q.test"
    assert found.proxy("https", "a.corp.test:5000") == ""

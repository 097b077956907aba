"""containerd's hosts.toml: what it says, and that registries over real TLS are found and spoken to as it says."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import HealthCheck, given
from hypothesis import settings as setting
from hypothesis import strategies as st
from registryserver import RegistryServer

from builder.errors import InvalidInput, RegistryBlocked, RegistryDenied, RegistryUnreachable
from builder.oci.references import Reference
from builder.store import Store
from builder.transfer.registry import hostsfile, settings
from builder.transfer.registry.endpoints import HUB, endpoints
from builder.transfer.registry.hostsfile import Way
from builder.transfer.registry.login import check
from builder.transfer.registry.session import described, first

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def written(registry: str, text: str) -> Path:
        path = tmp_path / "etc/containerd/certs.d" / registry / "hosts.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return written


@pytest.fixture
def places(tmp_path: Path) -> Callable[..., list[tuple[str, str, str, bool, str]]]:
    def found(name: str, *, push: bool = False) -> list[tuple[str, str, str, bool, str]]:
        known = settings.load({"HOME": str(tmp_path / "home")}, etc=tmp_path / "etc")
        listed = endpoints(Reference.parse(name), known, push=push)
        return [(each.scheme, each.host, each.root, each.insecure, each.namespace) for each in listed]

    return found


DIGEST = "@sha256:" + 64 * "a"
FILE = """
server = "https://registry-1.docker.io"
[host."https://near.test"]
  capabilities = ["pull", "resolve"]
[host."http://10.0.0.1:5000"]
  capabilities = ["pull"]
[host."https://odd.test/api/docker/"]
  capabilities = ["push", "pull", "resolve"]
  override_path = true
[host."lax.test/v2"]
  capabilities = ["pull", "resolve"]
  skip_verify = true
"""


def test_hosts_come_in_their_order_as_far_as_they_can_do_what_is_wanted(write: Write, places: Any) -> None:
    write("docker.io", FILE)
    near = ("https", "near.test", "/v2", False, "docker.io")
    plain = ("http", "10.0.0.1:5000", "/v2", True, "docker.io")
    odd = ("https", "odd.test", "/api/docker", False, "docker.io")
    lax = ("https", "lax.test", "/v2", True, "docker.io")
    hub = ("https", HUB, "/v2", False, "")
    assert places("busybox") == [near, odd, lax, hub]
    assert places("busybox" + DIGEST) == [near, plain, odd, lax, hub]
    assert places("busybox", push=True) == [odd]
    assert places("other.test/a") == [("", "other.test", "/v2", False, "")]


def test_without_a_server_the_registry_itself_is_the_last(write: Write, places: Any) -> None:
    write("r.test_5000_", '[host."https://m.test"]\ncapabilities = ["pull", "resolve"]')
    itself = ("", "r.test:5000", "/v2", False, "")
    assert places("r.test:5000/a") == [("https", "m.test", "/v2", False, "r.test:5000"), itself]
    assert places("r.test:5000/a", push=True) == [itself]


def test_the_users_file_goes_before_the_systems_and_a_default_is_the_last(
    write: Write, places: Any, tmp_path: Path
) -> None:
    write("_default", 'server = "https://all.test"')
    assert places("r.test/a")[0][1] == "all.test"
    write("r.test", 'server = "https://system.test"')
    assert places("r.test/a")[0][1] == "system.test"
    mine = tmp_path / "home/.config/containerd/certs.d/r.test/hosts.toml"
    mine.parent.mkdir(parents=True)
    mine.write_text('server = "https://mine.test"')
    assert places("r.test/a")[0][1] == "mine.test"


def test_it_goes_before_other_files_but_for_what_they_block(write: Write, places: Any, tmp_path: Path) -> None:
    conf = tmp_path / "etc/containers/registries.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(
        '[[registry]]\nprefix = "r.test"\nlocation = "other.test"\n'
        '[[registry]]\nlocation = "s.test"\nblocked = true\n[[registry]]\nlocation = "t.test"\ninsecure = true\n'
    )
    for registry in ("r.test", "s.test", "_default"):
        write(registry, 'server = "https://said.test"')
    assert places("r.test/a")[0][1] == "said.test"
    assert places("t.test/a") == [("", "t.test", "/v2", True, "")]
    with pytest.raises(RegistryBlocked):
        places("s.test/a")


def test_how_a_host_is_spoken_to(write: Write, tmp_path: Path) -> None:
    path = write(
        "r.test",
        """
ca = ["a.pem", "/b.pem"]
client = [["c.pem", "c.key"], ["/d.pem", ""]]
dial_timeout = "1m30s"
proxy = "http://p.test:1"
[header]
x-one = "1"
x-two = ["2", "3"]
""",
    )
    found = hostsfile.find([tmp_path / "etc/containerd/certs.d"], "r.test")
    here = path.parent
    assert found is not None and found.server.way == Way(
        authorities=(here / "a.pem", Path("/b.pem")),
        clients=((here / "c.pem", here / "c.key"), (Path("/d.pem"), None)),
        headers=(("x-one", "1"), ("x-two", "2, 3")),
        connect=90.0,
        proxy="http://p.test:1",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('server = "https://a"\n[host', "2:6: not TOML: "),
        ("server = 1", "1:1: server: must be a text"),
        ('\nserver = "ftp://a"', "2:1: server: 'ftp://a' is not http(s)://host"),
        ("host = 1", "1:1: host: must be tables"),
        ('[host."https://u:p@a"]', "1:8: https://xxxxx:xxxxx@a: "),
        ('skip_verify = 1\n[host."b"]\n  skip_verify = "no"', "3:3: skip_verify: must be true or false"),
        ('[host."b"]\n capabilities = ["pull", "fly"]', "2:2: capabilities: unknown capability 'fly'"),
        ('[host."b"]\nca = [1]', "2:1: ca: must be a text, or a list of texts"),
        ('client = [["a", "b", "c"]]', "1:1: client: must be a file, a list of files, or a list of pairs"),
        ('[header]\n"a b" = "c"', "2:2: a b: is no header"),
        ('[header]\nx = "c\\r\\nd"', "2:1: x: is no header"),
        ('dial_timeout = "soon"', "1:1: dial_timeout: 'soon' is no duration"),
        ('proxy = "p.test"', "1:1: proxy: must be http://host"),
    ],
)
def test_what_is_wrong_has_a_place(write: Write, places: Any, text: str, message: str) -> None:
    path = write("r.test", text)
    with pytest.raises(InvalidInput) as caught:
        places("r.test/a")
    assert caught.value.message.startswith(f"{path}:{message}") and str(path) in caught.value.excerpt


@setting(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.dictionaries(
        st.sampled_from(("server", "host", "ca", "client", "header", "capabilities", "skip_verify", "proxy")),
        st.recursive(st.booleans() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=2)),
    )
)
def test_anything_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    import json

    directory = tmp_path_factory.mktemp("hosts")
    (directory / "r.test").mkdir()
    lines = [f"{key} = {json.dumps(value, ensure_ascii=True)}" for key, value in fields.items()]
    (directory / "r.test/hosts.toml").write_text("\n".join(lines))
    try:
        hostsfile.find([directory], "r.test")
    except InvalidInput as err:
        assert str(directory) in err.message


# --- over real TLS --------------------------------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def server(authority: trustme.CA, layer: Any, *, client: bool = False) -> RegistryServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    if client:
        context.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(context)
    made = RegistryServer(tls=context)
    made.put_image("app", "1", [layer(a=b"a")])
    return made


def head(registries: Any, name: str) -> str:
    reference = Reference.parse(name)
    place, _ = first(registries.repositories(reference), lambda each: described(each, reference))
    return str(place.endpoint.host)


def test_a_mirror_with_an_authority_of_its_own_is_checked(
    write: Write, connect: Any, authority: trustme.CA, layer: Any, tmp_path: Path
) -> None:
    with server(authority, layer) as mirror:
        name, url = "r.test/app:1", f"https://{mirror.host}"
        write("r.test", f'[host."{url}"]\nca = "{tmp_path}/ca.pem"\n[host."{url}".header]\nx-team = "a"')
        assert head(connect(), name) == mirror.host
        ((_, path, headers),) = mirror.seen("HEAD .*/manifests/")
        assert path == "/v2/app/manifests/1?ns=r.test" and headers["x-team"] == "a"
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
        with pytest.raises(RegistryUnreachable):
            head(connect(), name)
        write("r.test", f'server = "{url}"\nskip_verify = true')
        assert head(connect(), name) == mirror.host


def test_a_client_shows_its_certificate(
    write: Write, connect: Any, authority: trustme.CA, layer: Any, tmp_path: Path
) -> None:
    with server(authority, layer, client=True) as registry:
        mine = authority.issue_cert("me@example.test")
        mine.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        mine.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        mine.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        for client in (f'"{tmp_path}/both.pem"', f'[["{tmp_path}/cert.pem", "{tmp_path}/key.pem"]]'):
            write(registry.host, f'ca = "{tmp_path}/ca.pem"\nclient = {client}')
            assert head(connect(), f"{registry.host}/app:1") == registry.host
            check(connect().host(registry.host), registry.host)
        write(registry.host, f'ca = "{tmp_path}/ca.pem"')
        with pytest.raises(RegistryUnreachable):
            head(connect(), f"{registry.host}/app:1")


def test_an_image_comes_from_a_host_whose_api_is_elsewhere(
    write: Write, connect: Any, authority: trustme.CA, layer: Any, tmp_path: Path, store: Store
) -> None:
    from builder.oci import platforms
    from builder.transfer.registry.pull import pull

    def below(request: Any) -> bool:
        if not request.path.startswith("/api/docker/"):
            request.error(404, "NAME_UNKNOWN")
            return True
        request.path = "/v2/" + request.path.removeprefix("/api/docker/").partition("?")[0]
        return False

    with server(authority, layer) as mirror:
        mirror.intercept = below
        url = f"https://{mirror.host}/api/docker"
        write("r.test", f'[host."{url}"]\nca = "{tmp_path}/ca.pem"\noverride_path = true')
        pulled = pull(store, connect(), Reference.parse("r.test/app:1"), platform=platforms.parse("linux/amd64"))
        assert pulled.reference.familiar() == "r.test/app:1"


def test_a_mirror_is_not_shown_the_registrys_password(
    write: Write, connect: Any, authority: trustme.CA, layer: Any, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"auths": {"r.test": {"auth": "dTpw"}}}')
    with server(authority, layer) as mirror:
        mirror.user = ("u", "p")
        write("r.test", f'server = "https://{mirror.host}"\nca = "{tmp_path}/ca.pem"')
        with pytest.raises(RegistryDenied):
            head(connect({"DOCKER_CONFIG": str(tmp_path)}), "r.test/app:1")
        assert not any("Authorization" in headers for _, _, headers in mirror.requests)

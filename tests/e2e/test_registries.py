"""Images through real registries: docker-registry, and docker, podman and skopeo on its other side.

Skipped where one is not installed; what a registry may do wrong is tested in tests/builder/transfer/registry, always.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from dockerregistry import PASSWORD, USER, docker_registry, dockerd, need
from proxy import Proxy
from registryserver import RegistryServer

from builder.store import Store
from builder.store.validate import image as validate

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(tmp_path: Path, authority: trustme.CA) -> Iterator[str]:
    with docker_registry(tmp_path / "secure", authority=authority) as host:
        yield host


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path / "plain") as host:
        yield host


def user(lamina: Lamina, place: Path) -> Lamina:
    """`lamina` as a user whose configuration is below `place`."""
    own = {"XDG_CONFIG_HOME": str(place / "config"), "DOCKER_CONFIG": str(place / "docker"), "HOME": str(place)}
    return replace(lamina, environment={**lamina.environment, **own})


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Three layers, one of which does not pack."""
    context = tmp_path / "project"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY a /\nCOPY big /\nCOPY b /x/\nCMD ["/a"]\n')
    (context / "a").write_text("a")
    (context / "b").write_text("b" * 10_000)
    (context / "big").write_bytes(random.Random(1).randbytes(400_000))
    return context


def facts(lamina: Lamina, name: str) -> dict[str, Any]:
    """Id, layers and digests of an image, which is whole."""
    with Store.open(lamina.root) as store:
        validate(store, store.images.resolve(name), full=True)
    found: dict[str, Any] = json.loads(lamina.text("image", "inspect", name))[0]
    return found


def clean(lamina: Lamina) -> bool:
    return lamina("fsck", "--full").returncode == 0


# --- with the tools that people have --------------------------------------------------------------------------------


def test_over_tls_with_a_password_every_tool_sees_the_same_image(
    lamina: Lamina, secure: str, authority: trustme.CA, project: Path, tmp_path: Path
) -> None:
    certificates = tmp_path / "me/config/lamina/certs.d" / secure
    certificates.mkdir(parents=True)
    authority.cert_pem.write_to_path(str(certificates / "ca.crt"))
    mine = user(lamina, tmp_path / "me")
    name = f"{secure}/team/app:1"
    mine("build", "-q", "-t", name, project)

    denied = mine("push", name, code=1).stderr.decode()
    assert "denied" in denied and f"lamina login {secure}" in denied
    wrong = mine("login", "-u", USER, "--password-stdin", secure, stdin=b"wrong", code=1).stderr.decode()
    assert "unauthorized" in wrong and not (tmp_path / "me/docker/config.json").exists()
    done = mine("login", "-u", USER, "--password-stdin", secure, stdin=PASSWORD.encode() + b"\n")
    assert done.stdout == b"Login Succeeded\n" and b"stored unencrypted" in done.stderr
    assert (tmp_path / "me/docker/config.json").stat().st_mode & 0o777 == 0o600

    pushed = mine.text("push", name).splitlines()
    digest = pushed[-1].split()[2]
    assert pushed[0] == f"The push refers to repository [{secure}/team/app]"
    assert pushed[-1].startswith(f"1: digest: {digest} size: ")
    image = facts(mine, name)
    assert f"{secure}/team/app@{digest}" in image["RepoDigests"]

    second = replace(mine, root=tmp_path / "second")
    assert second.text("pull", name).splitlines()[-3:] == [
        f"Digest: {digest}",
        f"Status: Downloaded newer image for {name}",
        name,
    ]
    assert facts(second, name)["Id"] == image["Id"]
    second("tag", name, f"{secure}/back:1")
    assert f"digest: {digest} " in second.text("push", f"{secure}/back:1")

    config = tmp_path / "me/docker/config.json"
    if shutil.which("skopeo"):
        _skopeo(second, name, digest, image, certificates, config)
    if shutil.which("podman"):
        _podman(second, name, digest, image, certificates, tmp_path)
    assert mine.text("logout", secure) == f"Removing login credentials for {secure}"
    assert "Not logged in" in mine.text("logout", secure)
    mine("pull", name, code=1)
    assert PASSWORD not in "".join(path.read_text() for path in (tmp_path / "me").rglob("*.json"))
    assert clean(mine) and clean(second)


def _skopeo(lamina: Lamina, name: str, digest: str, image: dict[str, Any], certificates: Path, config: Path) -> None:
    host = name.partition("/")[0]
    copy = ["skopeo", "--insecure-policy", "copy", "--authfile", config]
    copy += ["--src-cert-dir", certificates, "--dest-cert-dir", certificates]
    for form, target in (("", f"{host}/skopeo:1"), ("v2s2", f"{host}/skopeo:docker")):
        subprocess.run(
            [*copy, *(["--format", form] if form else []), f"docker://{name}", f"docker://{target}"],
            check=True,
            capture_output=True,
        )
        lamina("pull", target)
        found = facts(lamina, target)
        assert found["Id"] == image["Id"] and found["RootFS"] == image["RootFS"]
        if not form:
            assert f"{host}/skopeo@{digest}" in found["RepoDigests"]
        lamina("rmi", target)


def _podman(lamina: Lamina, name: str, digest: str, image: dict[str, Any], certificates: Path, tmp_path: Path) -> None:
    host = name.partition("/")[0]
    with tempfile.TemporaryDirectory(prefix="podman-") as place:
        podman = ["podman", "--root", f"{place}/root", "--runroot", f"{place}/run", "--tmpdir", f"{place}/tmp"]
        podman += ["--storage-driver", "vfs", "--cgroup-manager", "cgroupfs"]
        access = ["--cert-dir", str(certificates), "--creds", f"{USER}:{PASSWORD}"]

        def do(*arguments: str) -> str:
            return subprocess.run([*podman, *arguments], check=True, capture_output=True, text=True).stdout.strip()

        do("pull", *access, name)
        theirs = json.loads(do("image", "inspect", name))[0]
        assert "sha256:" + theirs["Id"] == image["Id"] and theirs["Digest"] == digest
        assert theirs["RootFS"]["Layers"] == image["RootFS"]["Layers"]
        do("push", *access, name, f"docker://{host}/podman:1")
    lamina("pull", f"{host}/podman:1")
    assert facts(lamina, f"{host}/podman:1")["Id"] == image["Id"]


def test_docker_pulls_what_we_push_and_we_pull_what_it_pushes(
    lamina: Lamina, plain: str, project: Path, tmp_path: Path
) -> None:
    lamina("build", "-q", "-t", f"{plain}/app:1", project)
    lamina("push", "-q", f"{plain}/app:1")
    image = facts(lamina, f"{plain}/app:1")
    with dockerd() as docker:
        subprocess.run([*docker, "pull", f"{plain}/app:1"], check=True, capture_output=True)
        inspected = subprocess.run([*docker, "image", "inspect", f"{plain}/app:1"], check=True, capture_output=True)
        theirs = json.loads(inspected.stdout)[0]
        assert theirs["Id"] == image["Id"] and theirs["RepoDigests"] == image["RepoDigests"]
        subprocess.run([*docker, "tag", f"{plain}/app:1", f"{plain}/docker:1"], check=True)
        subprocess.run([*docker, "push", f"{plain}/docker:1"], check=True, capture_output=True)
    lamina("pull", f"{plain}/docker:1")
    assert facts(lamina, f"{plain}/docker:1")["Id"] == image["Id"]


def test_a_mirror_stands_in_for_docker_io_and_the_next_for_one_that_is_down(
    lamina: Lamina, plain: str, project: Path, tmp_path: Path
) -> None:
    name = f"{plain}/library/thing:1"
    lamina("build", "-q", "-t", name, project)
    lamina("push", "-q", name)
    mine = replace(user(lamina, tmp_path / "me"), root=tmp_path / "second")
    mine = replace(mine, environment={**mine.environment, "CONTAINERS_REGISTRIES_CONF": str(tmp_path / "none")})
    daemon = tmp_path / "me/config/lamina/daemon.json"
    daemon.parent.mkdir(parents=True)
    daemon.write_text(json.dumps({"registry-mirrors": ["http://127.0.0.1:1", f"http://{plain}"]}))
    assert mine.text("pull", "-q", "thing:1") == "docker.io/library/thing:1"
    assert facts(mine, "thing:1")["Id"] == facts(lamina, name)["Id"]
    # and a build finds its base there
    (project / "Dockerfile").write_text("FROM thing:1\nLABEL more=1\n")
    third = replace(mine, root=tmp_path / "third")
    third("build", "-q", "-t", "more", project)
    assert facts(third, "more")["RootFS"] == facts(mine, "thing:1")["RootFS"]


def test_many_tags_at_once(lamina: Lamina, plain: str, project: Path, tmp_path: Path) -> None:
    for tag in ("1", "2", "3"):
        lamina("build", "-q", "-t", f"{plain}/app:{tag}", "--label", f"tag={tag}", project)
    told = lamina.text("push", "-a", f"{plain}/app")
    assert [line.partition(":")[0] for line in told.splitlines() if ": digest: " in line] == ["1", "2", "3"]
    second = replace(lamina, root=tmp_path / "second")
    assert second.text("pull", "-a", "-q", f"{plain}/app") == f"{plain}/app"
    for tag in ("1", "2", "3"):
        assert facts(second, f"{plain}/app:{tag}")["Id"] == facts(lamina, f"{plain}/app:{tag}")["Id"]


# --- builds and containers that need an image ------------------------------------------------------------------------


def test_builds_and_containers_pull_what_is_missing(busybox: Lamina, tmp_path: Path) -> None:
    with RegistryServer() as registry:
        base = f"{registry.host}/base:1"
        busybox("tag", "busybox", base)
        busybox("push", "-q", base)
        second = replace(busybox, root=tmp_path / "second")
        done = second("run", "--rm", base, "echo", "hello")
        assert done.stdout == b"hello\n"
        told = done.stderr.decode()
        assert told.startswith(f"Unable to find image '{base}' locally\n1: Pulling from base\n")
        assert f"Status: Downloaded newer image for {base}" in told

        context = tmp_path / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(f"FROM {base}\nRUN echo built > /built\n")
        third = replace(busybox, root=tmp_path / "third")
        done = third("build", "--push", "-t", f"{registry.host}/made:1", "--metadata-file", tmp_path / "meta", context)
        assert "Pull complete" in done.stderr.decode()
        digest = json.loads((tmp_path / "meta").read_text())["containerimage.digest"]
        assert registry.manifests["made", digest] == registry.manifests["made", "1"]
        facts(third, f"{registry.host}/made:1")

        # What is here is not asked for again, unless one says so.
        registry.requests.clear()
        third("build", "-q", context)
        third("run", "--rm", base, "true")
        assert registry.requests == []
        third("build", "-q", "--pull", context)
        assert registry.seen("HEAD /v2/base/manifests/1")
        registry.requests.clear()
        third("run", "--rm", "--pull", "always", "-q", base, "true")
        assert registry.seen("HEAD /v2/base/manifests/1")
        third("run", "--rm", "--pull", "never", f"{registry.host}/other", code=125)
        third("run", "--rm", "--pull", "sometimes", base, code=125)
        missing = third("run", "--rm", f"{registry.host}/nothing", code=125).stderr.decode()
        assert "denied" in missing or "not found" in missing
        for each in (second, third):
            assert clean(each)
            each("system", "prune", "-f")


def test_a_pulled_image_with_a_forged_history_makes_no_hit(lamina: Lamina, project: Path) -> None:
    """CVE-2024-24557: what an image says of its own making is no cache."""
    import io
    import tarfile

    lamina("build", "-q", "-t", "honest", project)
    forged = io.BytesIO()
    with tarfile.open(fileobj=forged, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("evil"))
    with RegistryServer() as registry:
        manifest = registry.put_image("app", "1", [forged.getvalue()])
        config = json.loads(registry.blobs[manifest["config"]["digest"]])
        config["history"] = [{"created_by": "COPY a / # buildkit", "comment": "buildkit.dockerfile.v0"}]
        manifest["config"] |= registry.put_blob("app", json.dumps(config).encode())
        registry.put_manifest("app", "1", manifest)
        lamina("pull", "-q", f"{registry.host}/app:1")
    lamina("builder", "prune", "-af")
    lamina("build", "-q", "-t", "again", project)
    layers = [facts(lamina, name)["RootFS"]["Layers"] for name in ("again", "honest")]
    # The last step makes a directory, which has the time at which it was made.
    assert layers[0][:2] == layers[1][:2] and facts(lamina, "again")["Size"] == facts(lamina, "honest")["Size"]


# --- broken off -----------------------------------------------------------------------------------------------------


@pytest.fixture
def source(lamina: Lamina, project: Path) -> Iterator[RegistryServer]:
    """A registry with the image app:1."""
    with RegistryServer() as registry:
        lamina("build", "-q", "-t", f"{registry.host}/app:1", project)
        lamina("push", "-q", f"{registry.host}/app:1")
        yield registry


ROUND = 6000
"""Bytes of answers that come again with every attempt, at most."""


def _kept(root: Path) -> int:
    """Bytes of blobs, whole and partial, that a store has."""
    found = 0
    for path in (root / "content").glob("*sha256-*"):
        with suppress(FileNotFoundError):  # it has just become whole, under another name
            found += path.stat().st_size
    return found


def test_a_pull_that_is_killed_goes_on_where_it_was(lamina: Lamina, source: RegistryServer, tmp_path: Path) -> None:
    name = f"{source.host}/app:1"
    size = sum(len(data) for data in source.blobs.values())
    places = random.Random(2)
    with Proxy(source.host, stall=True) as proxy:
        conf = tmp_path / "registries.conf"
        conf.write_text(f'[[registry]]\nprefix = "{source.host}"\nlocation = "{proxy.host}"\n')
        second = replace(
            lamina,
            root=tmp_path / "second",
            environment={"CONTAINERS_REGISTRIES_CONF": str(conf)},
        )
        for _ in range(8):
            budget = places.randrange(100, 120_000)
            wanted = _kept(second.root) + budget - ROUND
            proxy.allow(budget)
            process = second.start("pull", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # What has passed the proxy, the process must have read before it is killed.
            while process.poll() is None and not (proxy.used_up.wait(0.02) and _kept(second.root) >= wanted):
                pass
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        proxy.allow(None)
        second("pull", name)
        # Heads of answers, manifests and the config come again.
        assert proxy.passed < size + 10 * ROUND
    assert facts(second, name)["Id"] == facts(lamina, name)["Id"]
    assert clean(second)
    assert not list((second.root / "content").glob("partial-*"))


def test_a_push_that_is_killed_goes_on_where_it_was(lamina: Lamina, source: RegistryServer) -> None:
    places = random.Random(3)
    with RegistryServer() as registry, Proxy(registry.host, counted="up", stall=True) as proxy:
        name = f"{proxy.host}/copy:1"
        lamina("tag", f"{source.host}/app:1", name)
        for _ in range(5):
            proxy.allow(places.randrange(1000, 400_000))
            process = lamina.start("push", name, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while not proxy.used_up.wait(0.05) and process.poll() is None:
                pass
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        proxy.allow(None)
        lamina("push", name)
        assert registry.manifests["copy", "1"] == source.manifests["app", "1"]
        assert registry.blobs == source.blobs
    assert clean(lamina)


def test_a_full_disk_in_the_middle_is_an_error_and_leaves_nothing_half(
    lamina: Lamina, source: RegistryServer, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    need("mount")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], check=True)
    try:
        second = replace(lamina, root=small / "store")
        second("images")
        with open(small / "ballast", "wb") as file:
            file.write(bytes(os.statvfs(small).f_bavail * 4096 - 500_000))
        done = second("pull", f"{source.host}/app:1", code=1)
        assert "No space left on device" in done.stderr.decode() and "hint: free some space" in done.stderr.decode()
        assert not list((second.root / "content").glob("partial-*"))
        assert second.text("images", "-q") == ""
        (small / "ballast").unlink()
        second("pull", f"{source.host}/app:1")
        assert facts(second, f"{source.host}/app:1")["Id"] and clean(second)
    finally:
        subprocess.run(["umount", "-l", small], check=True)

"""Signed images in docker-registry: by the commands as they are typed, and with openssl on the other side."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockerregistry import docker_registry, need

Lamina = Any  # the fixture's type lives in conftest, which tests do not import

pytestmark = pytest.mark.root

PASSWORD = {"LAMINA_KEY_PASSWORD": "a password"}


@pytest.fixture
def image(busybox: Lamina, tmp_path: Path) -> Iterator[str]:
    """An image in a registry, and a key pair beside."""
    with docker_registry(tmp_path / "registry") as host:
        busybox("tag", "busybox", f"{host}/team/app:1")
        busybox("push", "-q", f"{host}/team/app:1")
        busybox("generate-key-pair", cwd=tmp_path, environment=PASSWORD)
        yield f"{host}/team/app:1"


def test_sign_and_verify(busybox: Lamina, image: str, tmp_path: Path) -> None:
    def verify(*arguments: str, key: str = "cosign.pub", code: int = 0) -> Any:
        return busybox("verify-signature", "--key", key, *arguments, cwd=tmp_path, code=code)

    assert (tmp_path / "cosign.key").stat().st_mode & 0o777 == 0o600
    again = busybox("generate-key-pair", cwd=tmp_path, environment=PASSWORD, code=1).stderr
    assert b"cosign.key is there already" in again
    none = verify(image, code=1).stderr.decode()
    assert f"no signature of {image} (sha256:" in none and "there is none" in none
    wrong = busybox("sign", "--key", "cosign.key", image, cwd=tmp_path, environment={"COSIGN_PASSWORD": "x"}, code=1)
    assert b"the password is wrong" in wrong.stderr
    asked = busybox("sign", "--key", "cosign.key", image, cwd=tmp_path, code=125).stderr
    assert b"LAMINA_KEY_PASSWORD" in asked
    sign = ("sign", "--key", "cosign.key", "-a", "team=a")
    digest = busybox.text(*sign, image, cwd=tmp_path, environment=PASSWORD)
    done = verify(image)
    (claim,) = json.loads(done.stdout)
    assert claim["critical"]["image"]["docker-manifest-digest"] == digest and claim["optional"] == {"team": "a"}
    assert f"{image}: a signature holds for {digest}" in done.stderr.decode()
    verify("-a", "team=a", "--same-name", image, image.rpartition(":")[0] + f"@{digest}")
    assert b"without the annotation team=b" in verify("-a", "team=b", image, code=1).stderr
    busybox("generate-key-pair", "--output-key-prefix", "other", cwd=tmp_path, environment=PASSWORD)
    assert b"with another key" in verify(image, key="other.pub", code=1).stderr
    assert b"it is a private key" in verify(image, key="cosign.key", code=1).stderr
    assert b"No such file" in verify(image, key="nothing.pub", code=1).stderr
    assert b"keys are files here" in verify(image, key="awskms:///x", code=1).stderr
    assert b"--key is needed" in busybox("verify-signature", image, code=125).stderr
    public = (tmp_path / "cosign.pub").read_text()
    busybox("verify-signature", "--key", "env://PUBLIC", image, environment={"PUBLIC": public})
    # the tag now means something else
    busybox("tag", "busybox", image.replace("app:1", "other:1"))
    busybox("build", "-q", "-t", image, "--label", "a=b", "-", stdin=b"FROM busybox\nLABEL x=y\n")
    busybox("push", "-q", image)
    assert b"there is none" in verify(image, code=1).stderr
    assert busybox("fsck", "--full").returncode == 0


def test_all_tags_of_a_repository_are_its_images_without_their_signatures(
    busybox: Lamina, image: str, tmp_path: Path
) -> None:
    busybox("sign", "--key", "cosign.key", image, cwd=tmp_path, environment=PASSWORD)
    out = busybox("pull", "-a", image.removesuffix(":1")).stdout.decode()
    assert "1: Pulling from" in out and ".sig" not in out


def test_openssl_verifies_what_we_sign(busybox: Lamina, image: str, tmp_path: Path) -> None:
    openssl, skopeo, (host, _, rest) = need("openssl"), need("skopeo"), image.partition("/")
    digest = busybox.text("sign", "--key", "cosign.key", image, cwd=tmp_path, environment=PASSWORD)
    repository, signatures = rest.removesuffix(":1"), digest.replace(":", "-") + ".sig"
    copy = [skopeo, "--insecure-policy", "copy", "-q", "--src-tls-verify=false"]
    copy += [f"docker://{host}/{repository}:{signatures}", f"dir:{tmp_path}/copy"]
    subprocess.run(copy, check=True)
    (layer,) = json.loads((tmp_path / "copy/manifest.json").read_text())["layers"]
    (tmp_path / "signature").write_bytes(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
    payload = tmp_path / "copy" / layer["digest"].removeprefix("sha256:")
    critical = json.loads(payload.read_bytes())["critical"]
    assert critical == {
        "identity": {"docker-reference": f"{host}/{repository}"},
        "image": {"docker-manifest-digest": digest},
        "type": "cosign container image signature",
    }
    verify = [openssl, "dgst", "-sha256", "-verify", tmp_path / "cosign.pub"]
    subprocess.run([*verify, "-signature", tmp_path / "signature", payload], check=True, capture_output=True)

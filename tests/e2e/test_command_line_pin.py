"""`pin` as a user types it: what is written, what is only said, and that the result builds."""

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer

pytestmark = pytest.mark.root

Lamina = Any  # the fixture's type lives in conftest, which tests do not import


def put(registry: RegistryServer, text: bytes) -> str:
    """An image app:1 with one file; its digest."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size = len(text)
        archive.addfile(info, io.BytesIO(text))
    return registry.put_manifest("app", "1", registry.put_image("app", "1", [out.getvalue()]))


def test_a_file_is_pinned_checked_and_built(lamina: Lamina, registry: RegistryServer, tmp_path: Path) -> None:
    digest = put(registry, b"one")
    name = f"{registry.host}/app:1"
    file = tmp_path / "Dockerfile"
    text = "# base\nFROM {}  AS base\n\nFROM scratch\nCOPY --from=base file /\n"
    file.write_text(text.format(name))
    file.chmod(0o640)
    # what nobody knows stays as it is
    done = lamina("pin", tmp_path, cwd=tmp_path, code=1)
    assert f"Dockerfile:2:1: {name}: nobody here knows a digest of {name} (lamina pull {name}, or --pull)" in (
        done.stderr.decode()
    )
    assert (
        lamina("pin", "--check", cwd=tmp_path, code=1).stderr.decode() == f"Dockerfile:2:1: {name}: it is not pinned\n"
    )
    assert file.read_text() == text.format(name)
    # the registry knows, and a diff changes nothing
    shown = lamina.text("pin", "--pull", "--diff", cwd=tmp_path)
    assert f"-FROM {name}  AS base\n+FROM {name}@{digest}  AS base\n" in shown
    assert file.read_text() == text.format(name)
    assert lamina("pin", "--pull", "-f", "-", stdin=file.read_bytes()).stdout.decode() == text.format(
        f"{name}@{digest}"
    )
    # so does the store, once it has the image
    lamina("pull", "-q", name)
    link = tmp_path / "link"
    link.symlink_to("Dockerfile")
    assert lamina.text("pin", "-f", "link", cwd=tmp_path) == f"link:2:1: {name}@{digest}"
    assert link.is_symlink() and file.read_text() == text.format(f"{name}@{digest}")
    assert file.stat().st_mode & 0o777 == 0o640
    assert lamina("pin", "--check", cwd=tmp_path).stderr == b""
    lamina("build", "-t", "pinned", tmp_path)
    # the tag moves: the digest stays until it is told to follow
    later = put(registry, b"two")
    assert lamina.text("pin", "--pull", cwd=tmp_path) == ""
    assert lamina.text("pin", "--pull", "--update", cwd=tmp_path) == f"Dockerfile:2:1: {name}@{later}"
    assert {one.name for one in tmp_path.iterdir()} == {"Dockerfile", "link", "store"}
    lamina("fsck", "--full")


@pytest.mark.parametrize(
    ("text", "arguments", "what"),
    [
        ("FROM busybox\nNOPE\n", (), "Dockerfile:2:1: unknown instruction: NOPE"),
        (None, (), "open Dockerfile: no such file or directory"),
        ("FROM busybox\n", ("a", "b"), "requires at most 1 argument"),
    ],
)
def test_a_mistake_is_told(
    lamina: Lamina, tmp_path: Path, text: str | None, arguments: tuple[str, ...], what: str
) -> None:
    if text is not None:
        (tmp_path / "Dockerfile").write_text(text)
    done = lamina("pin", *arguments, cwd=tmp_path, code=1)
    assert what in done.stderr.decode()
    assert text is None or (tmp_path / "Dockerfile").read_text() == text

"""`lamina diff IMAGE1 IMAGE2` on built images: what a reviewer of a base update wants to read."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any

DOCKERFILE = """FROM busybox
RUN mkdir -p /lib/apk/db && printf 'P:musl\\nV:{version}\\nA:x86_64\\n\\n' > /lib/apk/db/installed
RUN echo same > /same; echo {version} > /changed; ln -s /same /link; chmod {mode} /bin/busybox; rm -f /etc/{gone}
ENV VERSION={version}
"""


@pytest.fixture
def two(busybox: Lamina, tmp_path: Path) -> Lamina:
    for version, mode, gone in (("1", "0755", "group"), ("2", "4755", "passwd")):
        (tmp_path / "Dockerfile").write_text(DOCKERFILE.format(version=version, mode=mode, gone=gone))
        busybox("build", "-q", "-t", f"app:{version}", tmp_path)
        busybox("fsck")
    return busybox


def test_json_names_everything_that_differs_and_nothing_else(two: Lamina) -> None:
    found = json.loads(two.text("diff", "--format", "json", "app:1", "app:2"))
    changed = {(each["kind"], each["path"]): each["what"] for each in found["files"]}
    assert changed == {
        ("changed", "/bin/busybox"): ["mode 0755 → 4755"],
        ("changed", "/changed"): ["content"],
        ("changed", "/lib/apk/db/installed"): ["content"],
        ("added", "/etc/group"): ["file"],
        ("removed", "/etc/passwd"): ["file"],
    }
    assert [each["path"] for each in found["security"]] == ["/bin/busybox"]
    assert found["packages"] == [{"kind": "changed", "ecosystem": "apk", "name": "musl", "before": "1", "after": "2"}]
    assert found["config"] == [{"field": "Env VERSION", "before": "1", "after": "2"}]
    assert found["sharedLayers"] == 1


def test_text_and_markdown(two: Lamina) -> None:
    shown = two.text("diff", "app:1", "app:2")
    assert "  ~ apk musl 1 → 2\n" in shown and "  C /bin/busybox  mode 0755 → 4755\n" in shown
    page = two.text("image", "diff", "--format", "markdown", "app:1", "app:2")
    assert "| `apk musl` | `1` | `2` |" in page and "- changed `/bin/busybox`: mode 0755 → 4755" in page


def test_exit_codes_and_wrong_use(two: Lamina) -> None:
    two("diff", "--exit-code", "app:1", "app:2", code=1)
    assert "no difference" in two.text("diff", "--exit-code", "app:1", "app:1")
    assert b"No such image: nothing" in two("diff", "app:1", "nothing", code=1).stderr
    assert b"--format is for the comparison of two images" in two("diff", "--format", "json", "c", code=125).stderr
    assert b"one of text, json, markdown" in two("diff", "--format", "xml", "app:1", "none", code=125).stderr


def test_a_bill_of_materials_of_a_built_image(two: Lamina, tmp_path: Path) -> None:
    document = json.loads(two.text("sbom", "app:2"))
    assert [each["purl"] for each in document["components"]] == ["pkg:apk/musl@2?arch=x86_64"]
    two("sbom", "--format", "spdx", "-o", tmp_path / "app.spdx.json", "app:2")
    assert [each["name"] for each in json.loads((tmp_path / "app.spdx.json").read_text())["packages"]] == [
        "app:2",
        "musl",
    ]
    assert b"one of cyclonedx, spdx" in two("sbom", "--format", "x", "app:2", code=125).stderr

"""COPY, ADD and .dockerignore cases of other builders with what a real BuildKit made of them: config and layers."""

import gzip
import json
import os
import re
import shutil
import stat
import subprocess
import time
import types
from collections.abc import Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from builder.errors import EngineError
from builder.oci.digests import Digest
from builder.pipeline.build import build
from builder.pipeline.context import open_context
from builder.pipeline.request import BuildRequest
from builder.store import Store, changesets, validate
from parser.errors import DockerfileError

pytestmark = pytest.mark.root

BUD = Path(__file__).parents[4] / "shared/corpus/buildah-bud"
CORPUS = Path(__file__).parents[4] / "shared/corpus/buildah-conformance"
KINDS = {"0": "file", "1": "hardlink", "2": "symlink", "3": "chardev", "4": "blockdev", "5": "dir", "6": "fifo"}
Json = dict[str, Any]

WRITTEN_AGAIN = {
    "dockerignore-allowlist-alternating",
    "bud/hardlink/Dockerfile",
    "bud/symlink/Dockerfile.replace-symlink",
}
"""Cases that copy a file onto its equal: BuildKit leaves it out when it compares snapshots. Our layer has it
all the same: what a layer holds must not depend on what lies below it.
"""


@cache
def cases() -> Mapping[str, Json]:
    """Those that need no base image and run nothing."""
    if not CORPUS.is_dir():
        return {}
    with gzip.open(CORPUS / "cases.json.gz") as file:
        found = json.load(file)
    return {case["id"]: case for case in found if case["scratch_only"] and not case["has_run"]}


def layer(path: Path) -> list[Json]:
    found: list[Json] = []

    def note(entry: changesets.Entry) -> None:
        one: Json = {
            "path": entry.path.decode(),
            "type": KINDS[entry.kind],
            "mode": f"{entry.mode:04o}",
            "uid": entry.uid,
            "gid": entry.gid,
        }
        if one["type"] == "file":
            one |= {"size": entry.size, "sha256": entry.digest[:16]}
        if entry.link:
            one["link"] = entry.link.decode()
        found.append(one)

    changesets.write(path, on_entry=note)
    return found


def expected_layer(entries: list[Json]) -> list[Json]:
    return [{name: value for name, value in entry.items() if name not in ("mtime", "text")} for entry in entries]


def by_path(entries: list[Json]) -> Mapping[str, Json]:
    return {entry["path"]: entry for entry in entries}


def no_launcher() -> Any:
    raise AssertionError("nothing of these cases runs")


@pytest.mark.parametrize("name", cases())
def test_case(tmp_path: Path, name: str) -> None:
    case = cases()[name]
    context = tmp_path / "context"
    context.mkdir()
    archive = CORPUS / case["context"]
    unpack = ["tar", "-xpf", archive, "-C", context, "--numeric-owner", "--xattrs", "--xattrs-include=*"]
    subprocess.run(unpack, check=True)
    dockerfile = context / case["dockerfile_name"]
    dockerfile.parent.mkdir(parents=True, exist_ok=True)
    dockerfile.write_text(case["dockerfile"])
    dockerfile.chmod(0o644)
    os.utime(dockerfile, (1485449953, 1485449953))  # as the corpus says
    build_args = case.get("build_args", {})
    compare(tmp_path, context, dockerfile, case["expected"]["buildkit_0_32"], build_args=build_args, again=name)


@cache
def bud_cases() -> Mapping[str, Json]:
    """Those of Buildah's small contexts that copy onto nothing and run nothing."""
    if not BUD.is_dir():
        return {}
    with gzip.open(BUD / "gold.json.gz") as file:
        found = [case for case in json.load(file) if case["expected"]["ok"]]
    chosen = {}
    for case in found:
        text = (BUD / "contexts" / case["context"] / case["dockerfile"]).read_text()
        bases = re.findall(r"^\s*FROM\s+(\S+)", text, re.MULTILINE | re.IGNORECASE)
        copies = re.search(r"^(COPY|ADD)", text, re.MULTILINE)
        if copies and set(bases) == {"scratch"} and not re.search(r"^\s*RUN", text, re.MULTILINE | re.IGNORECASE):
            chosen[case["id"]] = case
    return chosen


@pytest.mark.parametrize("name", bud_cases())
def test_bud_case(tmp_path: Path, name: str) -> None:
    case = bud_cases()[name]
    context = tmp_path / "context"
    shutil.copytree(BUD / "contexts" / case["context"], context, symlinks=True)
    for path in (context, *context.rglob("*")):
        if not path.is_symlink():  # the checkout is read-only, which the recorded one was not
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)
    for entry in case["expected"]["layers"][0]:
        path = context / entry["path"]
        if entry["type"] == "symlink" and path.is_file() and path.read_text() == entry["link"]:
            path.unlink()  # the checkout has its links as files with the target in them
            path.symlink_to(entry["link"])
    # The times are those of a checkout, and mean nothing.
    layers = [
        [{key: value for key, value in entry.items() if key != "mtime"} for entry in entries]
        for entries in case["expected"]["layers"]
    ]
    compare(tmp_path, context, context / case["dockerfile"], {**case["expected"], "layers": layers}, again=name)


def compare(
    tmp_path: Path,
    context: Path,
    dockerfile: Path,
    expected: Json,
    *,
    build_args: Mapping[str, str] = types.MappingProxyType({}),
    again: str,
) -> None:
    """Build, and compare the image with what BuildKit made, or with its refusal."""
    with ExitStack() as undo:
        store = undo.enter_context(Store.open(tmp_path / "store"))
        opened = open_context(
            str(context), dockerfile=str(dockerfile), stdin=None, scratch=lambda: tmp_path, cwd=tmp_path
        )
        undo.callback(opened.close)
        request = BuildRequest(dockerfile=opened.dockerfile, context=opened.tree, build_args=build_args)
        if not expected["ok"]:
            with pytest.raises((EngineError, DockerfileError)):
                build(request, store, no_launcher, clock=time.time)
            return
        image_id = build(request, store, no_launcher, clock=time.time).image_id
        validate.image(store, Digest(image_id), full=True)
        image = store.images.get(Digest(image_id))
        config = json.loads(image.config.to_json())["config"]
        config = {key: value for key, value in config.items() if value}
        assert config == {key: value for key, value in expected["config"].items() if value}
        layers = [store.snapshots.get(one).path for one in image.layers]
        assert len(layers) == len(expected["layers"])
        below: dict[str, Json] = {}
        for path, entries in zip(layers, expected["layers"], strict=True):
            found = by_path(layer(path))
            wanted = by_path(expected_layer(entries))
            if again in WRITTEN_AGAIN:
                found = {one: entry for one, entry in found.items() if one in wanted or below.get(one) != entry}
            assert found == wanted
            below |= found
            for entry in entries:
                status = (path / entry["path"]).lstat() if "mtime" in entry else None
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    assert int(status.st_mtime) == entry["mtime"], entry["path"]

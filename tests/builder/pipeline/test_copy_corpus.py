"""COPY, ADD and .dockerignore cases of other builders with what a real BuildKit made of them: config and layers."""

import gzip
import json
import os
import stat
import subprocess
import time
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

CORPUS = Path(__file__).parents[4] / "shared/corpus/buildah-conformance"
KINDS = {"0": "file", "1": "hardlink", "2": "symlink", "3": "chardev", "4": "blockdev", "5": "dir", "6": "fifo"}
Json = dict[str, Any]

WRITTEN_AGAIN = {"dockerignore-allowlist-alternating"}
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
    expected = case["expected"]["buildkit_0_32"]
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
    with ExitStack() as undo:
        store = undo.enter_context(Store.open(tmp_path / "store"))
        opened = open_context(
            str(context), dockerfile=str(dockerfile), stdin=None, scratch=lambda: tmp_path, cwd=tmp_path
        )
        undo.callback(opened.close)
        request = BuildRequest(dockerfile=opened.dockerfile, context=opened.tree, build_args=case.get("build_args", {}))
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
            if name in WRITTEN_AGAIN:
                found = {one: entry for one, entry in found.items() if one in wanted or below.get(one) != entry}
            assert found == wanted
            below |= found
            for entry in entries:
                status = (path / entry["path"]).lstat() if "mtime" in entry else None
                if status is not None and not stat.S_ISDIR(status.st_mode):
                    assert int(status.st_mtime) == entry["mtime"], entry["path"]

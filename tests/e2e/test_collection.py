"""The build cache keeps to its limit, says who keeps what, and its cache mounts are things one can see."""

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

Lamina = Any

DOCKERFILE = """FROM busybox
RUN --mount=type=cache,id=one,target=/c head -c 3000 /dev/zero > /c/f; head -c 200000 /dev/zero > /old
RUN head -c 100000 /dev/zero > /{name}
"""


def build(lamina: Lamina, directory: Path, name: str, **more: Any) -> None:
    (directory / "Dockerfile").write_text(DOCKERFILE.format(name=name))
    lamina("build", "-q", "-t", "app", directory, **more)


def test_gc_explains_who_keeps_what_and_keeps_to_the_limit(busybox: Lamina, tmp_path: Path) -> None:
    for name in ("first", "second"):
        build(busybox, tmp_path, name)
        busybox("rmi", "app")
    promised = json.loads(busybox.text("gc", "--dry-run", "--explain", "--format", "json", "--max-used", "350kB"))
    assert [each["kind"] for each in promised["gone"]].count("layer") == 1
    assert any('image "busybox:latest"' in each["holders"] for each in promised["kept"])
    assert any(holder.startswith("cache of RUN") for each in promised["kept"] for holder in each["holders"])
    done = json.loads(busybox.text("gc", "--format", "json", "--max-used", "350kB"))
    assert done["gone"] == promised["gone"] and 100_000 <= done["freed"] < 200_000
    assert "Total reclaimed space: 0B" in busybox.text("gc")
    busybox("fsck")


def test_a_build_keeps_the_cache_below_the_limit_by_itself(busybox: Lamina, tmp_path: Path) -> None:
    limit = {"LAMINA_GC_MAX_USED": "150kB"}
    build(busybox, tmp_path, "first", environment=limit)
    busybox("rmi", "app")
    build(busybox, tmp_path, "second", environment=limit)
    busybox("rmi", "app")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo small > /small\n")
    busybox("build", "-q", "-t", "small", tmp_path, environment=limit)
    items = [json.loads(line) for line in busybox.text("builder", "du", "--format", "json").splitlines()]
    total = sum(each["Size"] for each in items if not each["Shared"] and not each["InUse"])
    assert 0 < total <= 150 * 1024
    busybox("fsck")


def test_prune_by_filter(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    assert busybox.text("builder", "prune", "-f", "--filter", "until=24h") == "Total:\t0B"
    assert "3kB" in busybox.text("builder", "prune", "-f", "--filter", "type=exec.cachemount")
    assert busybox.text("cache-mount", "ls", "-q") == ""
    unknown = busybox("builder", "prune", "-f", "--filter", "color=red", code=1)
    assert b"invalid filter 'color'" in unknown.stderr and b"until" in unknown.stderr
    busybox("fsck")


def test_cache_mounts_are_listed_and_removed(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    assert busybox.text("cache-mount", "ls", "--format", "{{.ID}} {{.Size}} {{.Uses}}") == "one 3kB 1"
    assert busybox.text("cache-mount", "du").splitlines() == ["3kB       one", "Total: 3kB"]
    (name,) = busybox.text("cache-mount", "ls", "-q").splitlines()
    assert busybox.text("cache-mount", "rm", "one") == name
    assert b"no such cache mount: one" in busybox("cache-mount", "rm", "one", code=1).stderr
    busybox("fsck")


def test_system_df_v_names_everything(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    busybox("create", "--name", "web", "-v", "data:/data", "app")
    shown = busybox.text("system", "df", "-v")
    titles = ["Images space usage:", "Containers space usage:", "Local Volumes space usage:", "Build cache usage:"]
    assert [shown.index(title) for title in titles] == sorted(shown.index(title) for title in titles)
    assert "data          1         0B" in shown and "exec.cachemount" in shown
    busybox("rm", "web")

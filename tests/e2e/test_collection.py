"""The build cache keeps to its limit, says who keeps what, and its cache mounts are things one can see."""

import json
from pathlib import Path
from typing import Any

import pytest
from registryserver import RegistryServer

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
    limit = {"LAMINA_GC_MAX_USED": "250kB"}
    build(busybox, tmp_path, "first", environment=limit)
    busybox("rmi", "app")
    build(busybox, tmp_path, "second", environment=limit)
    busybox("rmi", "app")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo small > /small\n")
    busybox("build", "-q", "-t", "small", tmp_path, environment=limit)
    items = [json.loads(line) for line in busybox.text("builder", "du", "--format", "json").splitlines()]
    total = sum(int(each["Size"]) for each in items if not each["Shared"] and each["Reclaimable"])
    assert 0 < total <= 250 * 1024
    busybox("fsck")


def test_an_image_stays_while_it_is_mounted_in_a_container(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /f\n")
    busybox("build", "-q", "-t", "tools", tmp_path)
    mount = "type=image,src=tools,dst=/tools"
    busybox("create", "--name", "box", "--mount", mount, "busybox", "cat", "/tools/f")
    refused = busybox("rmi", "tools", code=1).stderr
    assert b"(must force) - container" in refused and b"is using its referenced image" in refused
    assert b"tools" not in busybox("image", "prune", "-af").stdout
    busybox("gc", "--max-used", "0")
    assert busybox.text("start", "-a", "box") == "FROM scratch\nCOPY Dockerfile /f"
    busybox("run", "-d", "--name", "running", "--mount", mount, "busybox", "sleep", "1000")
    assert b"running container" in busybox("rmi", "-f", "tools", code=1).stderr
    busybox("rm", "-f", "box", "running")
    busybox("rmi", "tools")
    busybox("fsck")


@pytest.mark.parametrize("removal", [("rmi", "app"), ("image", "prune", "-af")])
def test_what_only_an_image_kept_counts_when_that_goes(
    busybox: Lamina, tmp_path: Path, removal: tuple[str, ...]
) -> None:
    limit = {"LAMINA_GC_MAX_USED": "100kB"}
    build(busybox, tmp_path, "first", environment=limit)
    assert b"used longest ago removed" in busybox(*removal, environment=limit).stderr
    items = [json.loads(line) for line in busybox.text("builder", "du", "--format", "json").splitlines()]
    assert sum(int(each["Size"]) for each in items) <= 100 * 1024
    busybox("fsck")


def test_the_limit_may_be_in_a_daemon_json(busybox: Lamina, tmp_path: Path) -> None:
    settings = busybox.root / "no-config/lamina/daemon.json"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"builder": {"gc": {"defaultKeepStorage": "250kB"}}}')
    source = f"builder.gc.defaultKeepStorage of {settings}"
    for name in ("first", "second"):
        build(busybox, tmp_path, name)
        busybox("rmi", "app")
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo small > /small\n")
    busybox("build", "-q", "-t", "small", tmp_path)
    items = [json.loads(line) for line in busybox.text("builder", "du", "--format", "json").splitlines()]
    assert sum(int(each["Size"]) for each in items if not each["Shared"] and each["Reclaimable"]) <= 250 * 1024
    assert f"({source})" in busybox.text("gc", "--explain") and f"({source})" in busybox.text("info")
    assert "($LAMINA_GC_MAX_USED)" in busybox.text("gc", environment={"LAMINA_GC_MAX_USED": "1g"})
    # A fault in it is told with its place, and is no matter of a build's.
    settings.write_text('{"builder": {"gc": {"defaultKeepStorage": "much"}}}')
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo other > /other\n")
    told = busybox("build", "-t", "small", tmp_path).stderr.decode()
    fault = f"{settings}:1:43: builder.gc.defaultKeepStorage: invalid size: 'much'"
    assert f"WARNING: build cache: {fault}" in told
    told = busybox("gc", code=1).stderr.decode()
    assert f"Error: {fault}" in told and ">>>" in told
    assert fault in busybox.text("info")


def test_the_build_cache_is_shown_as_buildx_shows_it(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    header, *rows, reclaimable, total = busybox.text("builder", "du").splitlines()
    assert header.split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert reclaimable.startswith("Reclaimable:") and total.startswith("Total:")
    # What steps write to, and what an image has as well.
    assert sum("*  " in row.split(" ", 1)[0] + "  " for row in rows) == 1 and any("200kB*" in row for row in rows)
    mounts = busybox.text("builder", "du", "--filter", "type=exec.cachemount", "--format", "{{.Type}} {{.Size}}")
    assert mounts == "exec.cachemount 3kB"
    assert "Mutable:\ttrue" in busybox.text("builder", "du", "--verbose", "--filter", "mutable")
    gone = busybox.text("buildx", "prune", "-f", "--verbose", "--filter", "mutable")
    assert "Description:\tcache mount one" in gone and gone.endswith("Total:\t3kB")
    assert busybox.text("builder", "prune", "-f", "--min-free-space", "1").endswith("Total:\t0B")
    # Without --all what an image has as well stays in the cache.
    assert busybox.text("builder", "prune", "-f") == "Total:\t0B" and busybox.text("builder", "du") != ""
    assert busybox.text("builder", "prune", "-af") == "Total:\t0B" and "\nTotal:\t\t0B" in "\n" + busybox.text(
        "builder", "du"
    )


def test_prune_by_filter(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    assert busybox.text("builder", "prune", "-f", "--filter", "until=24h") == "Total:\t0B"
    assert busybox.text("system", "prune", "-f", "--filter", "until=24h") == "Total reclaimed space: 0B"
    assert "3kB" in busybox.text("builder", "prune", "-f", "--filter", "type=exec.cachemount")
    assert busybox.text("cache-mount", "ls", "-q") == ""
    assert busybox.text("builder", "prune", "-f", "--filter", "unused-for=24h") == "Total:\t0B"
    unknown = busybox("builder", "prune", "-f", "--filter", "color=red", code=1)
    assert b"invalid filter 'color'" in unknown.stderr and b"until" in unknown.stderr
    wrong = busybox("builder", "prune", "-f", "--max-used-space", "much", code=125)
    assert b'invalid argument "much" for "--max-used-space" flag: invalid size' in wrong.stderr
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
    (line,) = (line for line in busybox.text("system", "df").splitlines() if line.startswith("Build Cache"))
    assert line.split()[4:] == ["3kB", "3kB", "(100%)"]  # what an image has as well is the image's
    busybox("rm", "web")


CACHING = """FROM busybox
RUN --mount=type=cache,id=npm,target=/c,mode=0700,uid=7 \\
    echo {word} >> /c/file && ln -sf file /c/link && mkdir -p /c/d && chmod 2755 /c/d
RUN --mount=type=cache,id=npm,target=/c,mode=0700,uid=7 cat /c/file > /seen
"""


def seen(machine: Any, directory: Path, word: str) -> str:
    """What a build finds in its cache mount, with its own word at the end."""
    (directory / "Dockerfile").write_text(CACHING.format(word=word))
    machine("build", "-q", "--no-cache", "-t", "app", directory)
    shown: str = machine.text("run", "--rm", "--network", "none", "app", "cat", "/seen")
    return shown


def listed(machine: Any) -> list[str]:
    text: str = machine.text("cache-mount", "ls", "--format", "{{.ID}}")
    return text.splitlines()


def test_cache_mounts_go_to_another_machine(machines: Any, tmp_path: Path) -> None:
    first, context = machines(), tmp_path / "context"
    context.mkdir()
    seen(first, context, "one")
    with RegistryServer() as registry:
        name = f"{registry.host}/caches:npm"
        first("cache-mount", "export", "-o", tmp_path / "caches.tar")
        first("cache-mount", "export", "-o", tmp_path / "caches", "npm")
        first("cache-mount", "export", "--push", name)
        archive = first("cache-mount", "export", "-o", "-").stdout
        for source, stdin in (
            ((tmp_path / "caches.tar",), b""),
            ((tmp_path / "caches",), b""),
            (("--pull", name), b""),
            (("-",), archive),
        ):
            second = machines()
            second("cache-mount", "import", *source, stdin=stdin)
            assert listed(second) == ["npm"]
            assert seen(second, context, "two") == "one\ntwo"
            second("fsck")
    # Coming in once more, it replaces what is here.
    second("cache-mount", "import", tmp_path / "caches")
    assert seen(second, context, "three") == "one\nthree"
    second("cache-mount", "import", tmp_path / "caches")
    again = tmp_path / "again"
    second("cache-mount", "export", "-o", again)
    assert sorted(path.name for path in (again / "blobs/sha256").iterdir()) == sorted(
        path.name for path in (tmp_path / "caches/blobs/sha256").iterdir()
    )


def test_what_is_no_cache_mount_is_refused(busybox: Lamina, tmp_path: Path) -> None:
    build(busybox, tmp_path, "first")
    busybox("save", "-o", tmp_path / "image.tar", "app")
    busybox("cache-mount", "export", "-o", tmp_path / "caches")
    for blob in (tmp_path / "caches" / "blobs" / "sha256").iterdir():
        if blob.read_bytes()[:1] != b"{":
            blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    before = busybox.text("cache-mount", "ls")
    for source, text in (
        (tmp_path / "image.tar", b"no cache mounts here"),
        (tmp_path / "caches", b"rror"),
        (tmp_path / "nothing.tar", b"No such file"),
        ("/etc/passwd", b"/etc/passwd: not a tar archive\nhint: cache-mount import takes"),
        (tmp_path, b"not an OCI layout"),
    ):
        assert text in busybox("cache-mount", "import", source, code=1).stderr
    assert b"one of --output and --push" in busybox("cache-mount", "export", code=125).stderr
    assert b"so name it FILE.tar" in busybox("cache-mount", "export", "-o", "x.tgz", code=125).stderr
    assert busybox.text("cache-mount", "ls").split()[:8] == before.split()[:8]
    busybox("fsck")

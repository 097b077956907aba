"""Caches that travel, with a full disk, a killed process, others that do the same, and a registry that leaves."""

import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from registryserver import RegistryServer

pytestmark = pytest.mark.root

Lamina = Any
STEPS = 4
RANDOM = "cat /proc/sys/kernel/random/uuid"


def context(directory: Path, size: int = 1000) -> Path:
    """A build of which no two runs are alike; each of its layers has `size` bytes that cannot be packed."""
    directory.mkdir()
    lines = "".join(f"RUN {RANDOM} > /{n} && head -c {size} /dev/urandom >> /{n}\n" for n in range(STEPS))
    (directory / "Dockerfile").write_text("FROM busybox\n" + lines)
    return directory


def ran(machine: Lamina, source: Path, *flags: str, **more: Any) -> tuple[int, str]:
    """How many steps a build ran, and all that was told."""
    told = machine("build", "--progress=plain", "-t", "app", *flags, source, **more).stderr.decode()
    machine("fsck")
    return STEPS - told.count("CACHED"), told


def files(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())


def test_a_full_disk_leaves_the_cache_that_was_there(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    machine, other = machines(), machines()
    small, large = context(tmp_path / "small"), context(tmp_path / "large", 1 << 20)
    (tmp_path / "disk").mkdir()
    cache = tmp_path / "disk/cache"
    to, origin = f"--cache-to=type=local,dest={cache}", f"--cache-from=type=local,src={cache}"
    script = f"""
    set -e
    mount -t tmpfs -o size=2m none {tmp_path}/disk
    lamina build -q {to},tag=small {small}
    find {tmp_path}/disk -type f | sort > {tmp_path}/before
    lamina build --progress=plain {to},tag=large {large} 2>&1
    find {tmp_path}/disk -type f | sort | diff {tmp_path}/before -
    LAMINA_ROOT={other.root} lamina build --progress=plain {origin},tag=small {small} 2>&1
    """
    path = f"{Path(machine.command()[0]).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
        env=machine.variables({"PATH": path}),
        capture_output=True,
        timeout=300,
        check=False,
    )
    told = done.stdout.decode()
    assert done.returncode == 0, told + done.stderr.decode()
    assert f"exporting cache to {cache} failed: No space left on device" in told
    assert told.count("CACHED") == STEPS


def test_who_is_killed_while_it_writes_or_reads_a_cache_costs_nothing(
    machines: Callable[[], Lamina], tmp_path: Path
) -> None:
    source, cache = context(tmp_path / "context", 1 << 20), tmp_path / "cache"
    first, second = machines(), machines()
    to, origin = f"--cache-to=type=local,dest={cache}", f"--cache-from=type=local,src={cache}"
    first("build", "-q", source)
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    for _ in range(8):
        for machine, flag in ((first, to), (second, origin)):
            build = machine.start("build", flag, source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                build.wait(timeout=chance.uniform(0.2, 0.8))
            except subprocess.TimeoutExpired:
                os.killpg(build.pid, signal.SIGKILL)
                build.wait()
    first("fsck", "--repair")
    second("fsck", "--repair")
    assert ran(first, source, to)[0] == 0, f"seed {seed}"
    assert ran(machines(), source, origin)[0] == 0, f"seed {seed}"
    # Layers, config, manifest; index and oci-layout: nothing is left of those that were killed.
    assert len(files(cache)) == STEPS + 4, f"seed {seed}"
    ran(second, source, origin)


def test_several_builds_export_to_one_directory_at_once(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    cache, tags = tmp_path / "cache", ("one", "two", "three")
    sources = {tag: context(tmp_path / tag, 1 << 18) for tag in tags}
    everybody = {tag: machines() for tag in tags}
    for _ in range(2):
        builds = [
            everybody[tag].start("build", "-q", f"--cache-to=type=local,dest={cache},tag={tag}", sources[tag])
            for tag in tags
        ]
        assert [build.wait(300) for build in builds] == [0, 0, 0]
    for tag in tags:
        assert ran(machines(), sources[tag], f"--cache-from=type=local,src={cache},tag={tag}")[0] == 0
    assert len(files(cache)) == 3 * (STEPS + 2) + 2


def test_a_byte_that_flipped_costs_its_step_and_is_mended_by_the_next_export(
    machines: Callable[[], Lamina], tmp_path: Path
) -> None:
    source, cache = context(tmp_path / "context", 1 << 17), tmp_path / "cache"
    to, origin = f"--cache-to=type=local,dest={cache}", f"--cache-from=type=local,src={cache}"
    first = machines()
    ran(first, source, to)
    largest = max((cache / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    count, told = ran(machines(), source, origin)
    assert 0 < count <= STEPS and f"cache of directory {cache}: " in told
    assert ran(first, source, to)[0] == 0
    assert ran(machines(), source, origin)[0] == 0


def test_a_registry_that_leaves_in_the_middle(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    source, first = context(tmp_path / "context", 1 << 18), machines()
    with RegistryServer() as registry, Proxy(registry.host, counted="up") as proxy:
        name = f"{proxy.host}/app:cache"
        proxy.budget = 400_000
        _, told = ran(first, source, f"--cache-to=type=registry,ref={name}")
        assert f"exporting cache to {name} failed: " in told and ("app", "cache") not in registry.manifests
        proxy.budget = None
        assert "WARN" not in ran(first, source, f"--cache-to=type=registry,ref={name}")[1]
    with RegistryServer() as other, Proxy(other.host) as proxy:
        name = f"{proxy.host}/app:cache"
        ran(first, source, f"--cache-to=type=registry,ref={name}")
        proxy.budget = 400_000
        second = machines()
        count, told = ran(second, source, f"--cache-from={name}")
        assert 0 < count <= STEPS
        # What comes at the same time may fail, but nothing else is tried.
        assert 0 < told.count("cannot be fetched from registry") + told.count("cannot reach registry") <= 3


def test_collection_beside_builds_that_read_and_write_caches(machines: Callable[[], Lamina], tmp_path: Path) -> None:
    source, cache, first, second = context(tmp_path / "context"), tmp_path / "cache", machines(), machines()
    to, origin = f"--cache-to=type=local,dest={cache}", f"--cache-from=type=local,src={cache}"
    first("build", "-q", to, source)
    for _ in range(3):
        builds = [second.start("build", "-q", "-t", f"app{n}", origin, to, source) for n in range(2)]
        while any(build.poll() is None for build in builds):
            second("gc", "--max-used", "1")
        assert [build.returncode for build in builds] == [0, 0]
        second("rmi", "app0", "app1")
    second("fsck")
    assert ran(second, source, origin)[0] == 0


def test_a_cache_mount_that_a_step_has_is_not_exported_half(busybox: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=cache,id=busy,target=/c"
        " echo begun > /c/file; until rm /c/go; do sleep 0.1; done; echo ended > /c/file\n"
    )
    build = busybox.start("build", "-q", tmp_path)
    try:
        while not (begun := list(busybox.root.glob("caches/*/file"))):
            assert build.poll() is None
        told = busybox("cache-mount", "export", "-o", tmp_path / "out.tar", "busy", code=1).stderr.decode()
        (begun[0].parent / "go").touch()
        assert build.wait(100) == 0
    finally:
        build.kill()
        build.wait()
    assert "cache mount busy is in use by a running build" in told
    busybox("cache-mount", "export", "-o", tmp_path / "out.tar", "busy")
    busybox("cache-mount", "rm", "busy")
    busybox("cache-mount", "import", tmp_path / "out.tar")
    assert begun[0].read_text() == "ended\n"
    busybox("fsck")

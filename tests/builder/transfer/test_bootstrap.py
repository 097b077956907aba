"""Base images from the host's mirror."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from builder.errors import DownloadFailed, Unsupported
from builder.oci import platforms
from builder.store import Store, validate
from builder.transfer import bootstrap, busybox
from builder.transfer.bootstrap import Progress, Request
from runtime import binfmt

WHEN = datetime(2024, 1, 1, tzinfo=UTC)


def test_other_names_are_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, pytest.raises(Unsupported):
        bootstrap.bootstrap(store, Request("alpine", WHEN))


def test_a_host_without_apt_needs_a_mirror(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(DownloadFailed, match="no Debian mirror is known"):
            bootstrap._source(Request("busybox", WHEN), tmp_path)
        named = bootstrap._source(Request("busybox", WHEN, mirror="http://mirror/debian/"), tmp_path)
        assert (named.uri, named.suite) == ("http://mirror/debian", "bookworm")
        assert store.fsck() == ()


@pytest.mark.root
def test_busybox_is_an_image_and_is_made_the_same_again(tmp_path: Path) -> None:
    heard: list[Progress] = []
    with Store.open(tmp_path / "store") as store:
        made = bootstrap.bootstrap(store, Request("busybox", WHEN), emit=heard.append)
        assert made.references == ("busybox:latest",)
        config = validate.image(store, made.image_id, full=True)
        assert config.config.cmd == ("sh",)
        assert heard[-1].text == "making the root file system"
        again = bootstrap.bootstrap(store, Request("busybox", WHEN, tag="other:1"))
        assert again.image_id == made.image_id
        assert store.fsck(full=True) == ()


@pytest.mark.root
@pytest.mark.slow
def test_a_busybox_for_several_platforms_is_an_index(tmp_path: Path) -> None:
    wanted = tuple(map(platforms.parse, ("linux/arm64", "linux/amd64", "linux/arm/v7")))
    with Store.open(tmp_path / "store") as store:
        made = bootstrap.bootstrap(store, Request("busybox", WHEN, platforms=wanted))
        members = store.indexes.get(made.image_id).members
        assert tuple(one.platform for one in members) == wanted and made.packages == 3
        links = []
        for one in members:
            assert one.image is not None
            validate.image(store, one.image, full=True)
            root = store.snapshots.get(store.images.get(one.image).layers[0]).path
            assert busybox.is_static(root / "bin/busybox")
            links.append(sorted(path.name for path in (root / "bin").iterdir()))
        assert links[0] == links[1] == links[2] and "sh" in links[0]
        assert store.fsck(full=True) == ()


@pytest.mark.root
def test_a_debian_that_this_machine_cannot_configure_is_refused(tmp_path: Path) -> None:
    if binfmt.fitting("s390x", binfmt.handlers() or ()):
        pytest.skip("this machine runs programs for s390x")
    from runtime.container import Launcher

    request = Request("debian", WHEN, platforms=(platforms.parse("linux/s390x"),))
    with Store.open(tmp_path / "store") as store, Launcher() as launcher:
        with pytest.raises(Unsupported, match="cannot run programs for linux/s390x, and debian is"):
            bootstrap.bootstrap(store, request, launcher)
        with pytest.raises(Unsupported, match="Debian is not made for windows/amd64"):
            bootstrap.bootstrap(store, Request("busybox", WHEN, platforms=(platforms.parse("windows/amd64"),)))


@pytest.mark.root
@pytest.mark.slow
def test_debian_is_configured_and_names_its_updates(tmp_path: Path) -> None:
    from runtime.container import Launcher

    heard: list[Progress] = []
    with Store.open(tmp_path / "store") as store, Launcher() as launcher:
        made = bootstrap.bootstrap(store, Request("debian", WHEN, include=("less",)), launcher, emit=heard.append)
        assert made.references == ("debian:bookworm", "debian:latest")
        validate.image(store, made.image_id)
        root = store.snapshots.get(store.images.get(made.image_id).layers[0]).path
        lines = (root / "etc/apt/sources.list").read_text().splitlines()
        assert [line.split()[2] for line in lines] == ["bookworm", "bookworm-updates", "bookworm-security"]
        installed = (root / "var/lib/dpkg/status").read_text()
        assert installed.count("Status: install ok installed") == made.packages
        assert (root / "usr/bin/less").exists()
        assert not list((root / "var/cache/apt/archives").glob("*.deb"))
        fetched = [one for one in heard if one.text.startswith("fetching")]
        assert fetched[-1].done == fetched[-1].total > 0
        assert len(fetched) == made.packages + 1

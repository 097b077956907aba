"""A connection that is cut at random points, again and again: every attempt goes on where the last one ended."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from proxy import Proxy
from registryserver import RegistryServer

from builder.errors import RegistryUnreachable
from builder.oci import platforms
from builder.oci.references import Reference
from builder.store import Store
from builder.store.validate import image as validate
from builder.transfer.registry import upload
from builder.transfer.registry.pull import pull
from builder.transfer.registry.push import push

PLATFORM = platforms.parse("linux/amd64")
ROUNDS = 50
ATTEMPT = 12_000
"""Bytes that every attempt costs beside the blobs, at most: heads of answers, manifests, the config, and those of five
tries in it. One blob at a time, since the others are broken off unread when one fails.
"""


@pytest.fixture
def registry(layer: Any) -> Any:
    with RegistryServer() as server:
        server.put_image("app", "1", [layer(**{f"file{n}": os.urandom(60_000)}) for n in range(4)])
        yield server


def test_pulls_through_a_proxy_that_drops_the_connection(
    registry: RegistryServer, connect: Any, tmp_path: Path
) -> None:
    size, places = sum(map(len, registry.blobs.values())), random.Random(1)
    with Proxy(registry.host) as proxy:
        reference = Reference.parse(f"{proxy.host}/app:1")
        rounds = 0
        while rounds < ROUNDS:
            with Store.open(tmp_path / f"store{rounds}") as store:
                proxy.passed = attempts = 0
                while True:
                    rounds, attempts = rounds + 1, attempts + 1
                    # The last attempts of a store are not cut, so that it comes to an end.
                    proxy.allow(places.randrange(size // 2) if attempts < 6 else None)
                    try:
                        pulled = pull(store, connect(), reference, platform=PLATFORM, jobs=1)
                        break
                    except RegistryUnreachable:
                        continue
                validate(store, pulled.image_id, full=True)
                assert proxy.passed < size + attempts * ATTEMPT
                assert store.fsck(full=True) == ()


def test_pushes_through_a_proxy_that_drops_the_connection(
    registry: RegistryServer, store: Store, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "CHUNK", 1 << 14)
    pulled = pull(store, connect(), Reference.parse(f"{registry.host}/app:1"), platform=PLATFORM)
    size, places = sum(map(len, registry.blobs.values())), random.Random(2)
    rounds = 0
    while rounds < ROUNDS:
        with RegistryServer() as target, Proxy(target.host, counted="up") as proxy:
            reference = Reference.parse(f"{proxy.host}/copy:1")
            store.images.tag(reference, pulled.image_id)
            attempts = 0
            while True:
                rounds, attempts = rounds + 1, attempts + 1
                proxy.allow(places.randrange(size // 2) if attempts < 6 else None)
                try:
                    push(store, connect(), reference, jobs=1)
                    break
                except RegistryUnreachable:
                    continue
            assert target.blobs == registry.blobs
            assert target.manifests["copy", "1"] == registry.manifests["app", "1"]
            # What the registry had taken when the connection went is not sent again; a chunk's head is.
            assert proxy.passed < size + attempts * ATTEMPT * 3

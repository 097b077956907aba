"""Stores of a test's own, and images made by hand: a layer is some files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.oci.configs import History, ImageConfig
from builder.oci.digests import Digest
from builder.oci.references import Reference
from builder.store import Store, changesets
from builder.store.buildcache import CacheRecord
from builder.store.snapshots import Layer, LayerID


@dataclass(frozen=True, slots=True)
class Maker:
    """Makes layers, images and cache records in one open store."""

    store: Store

    def layer(self, files: Mapping[str, str], parents: Sequence[LayerID] = (), *, hashed: bool = True) -> Layer:
        """A committed layer with these files."""
        active = self.store.snapshots.prepare(parents)
        for name, content in files.items():
            path = active.upper / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        # The same files must give the same diff_id at any time.
        for top, directories, names in os.walk(active.upper):
            for name in (*directories, *names, "."):
                os.utime(os.path.join(top, name), (1, 1))
        layer = self.store.snapshots.commit(active)
        if hashed:
            self.store.snapshots.set_digests(layer.id, changesets.write(layer.path))
        return self.store.snapshots.get(layer.id)

    def image(
        self,
        *tags: str,
        files: Mapping[str, str] | None = None,
        parent: Digest | None = None,
        platform: str = "linux/amd64",
    ) -> Digest:
        """An image of one layer (on those of `parent`), with names."""
        below = () if parent is None else self.store.images.layers(parent)
        layer = self.layer(files if files is not None else {"file": " ".join(tags)}, below)
        layers = [*(self.store.snapshots.get(layer_id) for layer_id in below), layer]
        diff_ids = tuple(one.diff_id for one in layers if one.diff_id is not None)
        system, architecture, variant = (*platform.split("/"), "")[:3]
        history = (History(),) * len(layers)
        config = ImageConfig(architecture, system, variant=variant, diff_ids=diff_ids, history=history)
        image = self.store.images.put(config, [one.id for one in layers], parent=parent)
        self.store.images.tag_all([Reference.parse(tag) for tag in tags], image)
        return image

    def record(self, key: str, layer: LayerID | None, *, step: str = "step", result: str = "") -> CacheRecord:
        """A cache record that gives `layer`."""
        record = CacheRecord(key=key, step=step, text=f"RUN {key}", leaves=(("text", key),), layer=layer, result=result)
        self.store.buildcache.put(record)
        return record


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        yield opened


@pytest.fixture
def maker() -> type[Maker]:
    return Maker


@pytest.fixture
def make(store: Store) -> Maker:
    return Maker(store)


Run = Callable[..., "subprocess.CompletedProcess[str]"]

PRELUDE = """
import os, sys
from pathlib import Path
from builder.store import Store, crash
from builder.oci.references import Reference
sys.path.insert(0, os.path.dirname(sys.argv[2]))
from conftest import Maker
root = Path(sys.argv[1])
"""


@pytest.fixture
def run(root: Path) -> Run:
    """Run Python code in another process, with `root`, `Store`, `crash` and `Maker` at hand."""

    def call(code: str, *, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + code, str(root), __file__],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == expect, done.stderr
        return done

    return call


@pytest.fixture
def start(root: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """As `run`, but the process is under way: it talks over its standard input and output."""
    started: list[subprocess.Popen[str]] = []

    def call(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(root), __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()

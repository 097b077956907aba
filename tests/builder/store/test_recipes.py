"""Recipes: any tar that a layer came as is given back byte for byte, and what is broken is refused."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import EngineError, StoreCorrupt
from builder.store import Store, apply, recipes, tarheaders
from builder.transfer import layers

NAMES = st.sampled_from([b"a", b"d/b", b"d/c", b"e/f/g", b"long/" + b"n" * 120])


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """A tar with files, links, repeated names, odd padding and whatever may follow the end."""
    out = b""
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from([b"0", b"0", b"0", b"2"]))
        content = draw(st.binary(max_size=1500)) if kind == b"0" else b""
        out += tarheaders.header(draw(NAMES), kind, 0o644, (5, 6), len(content), 7, b"x" if kind == b"2" else b"")
        filler = draw(st.sampled_from([b"\0", b"\0", b"#"]))
        out += content + filler * (-len(content) % 512)
    return out + tarheaders.END + draw(st.sampled_from([b"", bytes(10240), b"what a writer left", bytes(70_000)]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tars())
def test_reproducible_tars_come_back(tmp_path_factory: pytest.TempPathFactory, tar: bytes) -> None:
    out, recipe, again = tmp_path_factory.mktemp("layer"), io.BytesIO(), io.BytesIO()
    try:
        applied = apply.extract(io.BytesIO(tar), out, recipe=recipe.write)
    except EngineError:
        return  # For example a link in the way of a directory.
    if applied.reproducible:
        recipe.seek(0)
        assert recipes.replay(recipe, out, again.write) == len(tar)
        assert again.getvalue() == tar
    else:
        assert applied.exact is False


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tars())
def test_every_layer_that_is_taken_is_given_back(tmp_path_factory: pytest.TempPathFactory, tar: bytes) -> None:
    """Also those that no recipe can describe: they are then kept as they are."""
    out = io.BytesIO()
    with Store.open(tmp_path_factory.mktemp("store") / "store") as store:
        try:
            layer = layers.read_in(store, lambda: io.BytesIO(tar))
        except EngineError:
            return
        assert layers.write_out(store, layer, out.write) == len(tar)
    assert out.getvalue() == tar


def test_sparse_files_come_back(tmp_path: Path) -> None:
    with open(tmp_path / "holes", "wb") as file:
        for at in (0, 3_000_000, 7_000_000):
            file.seek(at)
            file.write(b"data")
        file.truncate(8_000_000)
    out = io.BytesIO()
    with Store.open(tmp_path / "store") as store:
        for form in ("gnu", "pax"):
            command = ["tar", "-S", "-C", str(tmp_path), f"--format={form}", "-cf", "-", "holes"]
            tar = subprocess.run(command, capture_output=True, check=True).stdout
            layer = layers.read_in(store, lambda tar=tar: io.BytesIO(tar))  # type: ignore[misc]
            assert (layer.path / "holes").read_bytes() == (tmp_path / "holes").read_bytes()
            out = io.BytesIO()
            layers.write_out(store, layer, out.write)
            assert out.getvalue() == tar


def recipe_of(*steps: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    writer = recipes.Writer(out.write)
    for kind, data, size in steps:
        if kind == "literal":
            writer.literal(data)
        else:
            writer.file(data, size)
    writer.close()
    return out.getvalue()


def test_one_tar_has_one_recipe_however_its_bytes_arrive() -> None:
    data = os.urandom(200_000)
    whole = recipe_of(("literal", data, 0))
    assert whole == recipe_of(*(("literal", data[at : at + 777], 0) for at in range(0, len(data), 777)))


def test_broken_recipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    (tmp_path / "d").mkdir()
    good = recipe_of(("literal", b"head", 0), ("file", b"f", 5))
    assert recipes.replay(io.BytesIO(good), tmp_path, len) == 9
    broken = [good[:at] for at in range(len(good))]
    broken += [
        recipe_of(("file", b"f", 4)),
        recipe_of(("file", b"missing", 1)),
        recipe_of(("file", b"d", 1)),
        b"lamina recipe 1\nL" + b"\xff" * 8,
        b"lamina recipe 1\nF" + b"\xff" * 8,
        b"lamina recipe 1\nX" + bytes(8),
        b"lamina recipe 2\nE",
    ]
    for one in broken:
        with pytest.raises(StoreCorrupt):
            recipes.replay(io.BytesIO(one), tmp_path, len)


def test_a_recipe_leads_nowhere_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    layer = tmp_path / "layer"
    layer.mkdir()
    (layer / "link").symlink_to(tmp_path / "secret")
    for path in (b"../secret", b"link", os.fsencode(tmp_path / "secret")):
        with pytest.raises(StoreCorrupt):
            recipes.replay(io.BytesIO(recipe_of(("file", path, 6))), layer, len)

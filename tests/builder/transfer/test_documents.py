"""Archives whose documents lie (SECURITY.md 1, rows 29 and 30): refused by name, and nothing of them stays."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from builder.errors import EngineError
from builder.oci.references import Reference
from builder.store import Store, tarheaders
from builder.transfer import docker_archive

LAYER = tarheaders.header(b"x", b"0", 0o644, (0, 0), 0, 1) + tarheaders.END
KIND = "application/vnd.oci.image."


def tar(files: Mapping[str, bytes]) -> bytes:
    out = b""
    for name, data in files.items():
        out += tarheaders.header(name.encode(), b"0", 0o644, (0, 0), len(data), 0) + data
        out += tarheaders.padding(len(data))
    return out + tarheaders.END


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def config(**fields: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(LAYER)]}
    return json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs, **fields}).encode()


def docker(manifest: object = None, raw: bytes | None = None, **entry: object) -> bytes:
    """A docker archive with one image; *entry* replaces fields of its manifest, *manifest* all of it."""
    raw = config() if raw is None else raw
    name = digest(raw)[7:] + ".json"
    listed = [{"Config": name, "RepoTags": ["app:1"], "Layers": ["l/layer.tar"], **entry}]
    text = manifest if isinstance(manifest, bytes) else json.dumps(listed).encode()
    return tar({name: raw, "l/layer.tar": LAYER, "manifest.json": text})


def layout(
    *,
    index: Mapping[str, object] | None = None,
    manifest: Mapping[str, object] | None = None,
    blobs: Mapping[str, bytes] | None = None,
    name: str = "docker.io/library/app:1",
) -> bytes:
    """An OCI layout with one image; *index* and *manifest* replace fields (None: take it away)."""
    files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}

    def blob(kind: str, data: bytes) -> dict[str, object]:
        files["blobs/" + digest(data).replace(":", "/")] = data
        return {"mediaType": KIND + kind, "digest": digest(data), "size": len(data)}

    document = {
        "schemaVersion": 2,
        "mediaType": f"{KIND}manifest.v1+json",
        "config": blob("config.v1+json", config()),
        "layers": [blob("layer.v1.tar", LAYER)],
        **(manifest or {}),
    }
    described = blob("manifest.v1+json", json.dumps(document).encode())
    described["annotations"] = {"io.containerd.image.name": name.replace("ITS", str(described["digest"]))}
    files["index.json"] = json.dumps({"schemaVersion": 2, "manifests": [described], **(index or {})}).encode()
    return tar({**files, **(blobs or {})})


def described(text: str, **fields: object) -> dict[str, object]:
    return {"mediaType": f"{KIND}manifest.v1+json", "digest": text, "size": 10, **fields}


BAD_DIGESTS = [
    "sha256:../../../../etc/passwd",
    "../../etc/passwd",
    "sha256:" + "A" * 64,
    "sha256:" + "a" * 63,
    "sha256:" + "a" * 65,
    "sha256:" + "a" * 63 + "\u0661",
    "sha512:" + "a" * 64,
    "md5:" + "a" * 32,
    "sha256:" + "a" * 63 + "\n",
    "sha256:" + "0" * 64,
    ":" + "a" * 64,
    "",
]
OTHER = {"mediaType": f"{KIND}layer.v1.tar", "digest": digest(LAYER), "size": len(LAYER)}

REFUSED = {
    **{f"index names {text[:30]!r}": layout(index={"manifests": [described(text)]}) for text in BAD_DIGESTS},
    **{f"config is {text[:30]!r}": layout(manifest={"config": described(text)}) for text in BAD_DIGESTS},
    **{f"layer is {text[:30]!r}": layout(manifest={"layers": [described(text)]}) for text in BAD_DIGESTS},
    **{
        f"diff_id is {text[:30]!r}": docker(raw=config(rootfs={"type": "layers", "diff_ids": [text]}))
        for text in BAD_DIGESTS
    },
    "config outside": docker(Config="../../etc/passwd"),
    "config absolute": docker(Config="/etc/passwd"),
    "config of another name": docker(Config="0" * 64 + ".json"),
    "layer outside": docker(Layers=["../../../etc/passwd"]),
    "layers missing": docker(Layers=[]),
    "layer twice": docker(Layers=["l/layer.tar"] * 2),
    "layer no text": docker(Layers=[1]),
    "layers no list": docker(Layers="l/layer.tar"),
    "tag outside": docker(RepoTags=["../../x"]),
    "tag with a digest's form": docker(RepoTags=["sha256:" + "a" * 64 + "/x:y:z"]),
    "name that reads as an id": docker(RepoTags=["sha256:" + "a" * 64]),
    "name with a digest": docker(RepoTags=["debian@sha256:" + "1" * 64]),
    "name with a tag and a digest": docker(RepoTags=["debian:12@sha256:" + "1" * 64]),
    "name in an index that reads as an id": layout(name="docker.io/library/sha256:" + "a" * 64),
    "blob of another content": layout(blobs={"blobs/sha256/" + digest(LAYER)[7:]: b"x" * len(LAYER)}),
    "manifest with manifests": layout(manifest={"manifests": [described(digest(LAYER))]}),
    "index with layers": layout(index={"layers": [OTHER]}),
    "index with a config": layout(index={"config": OTHER}),
    "manifest of another type": layout(manifest={"mediaType": f"{KIND}index.v1+json"}),
    "size of another blob": layout(manifest={"layers": [{**OTHER, "size": len(LAYER) + 1}]}),
    "keys twice": docker(b'[{"Config":"a","Config":"b","Layers":[],"RepoTags":[]}]'),
    "byte order mark": docker(b"\xef\xbb\xbf[]"),
    "not a number": docker(b'[{"Config":NaN}]'),
    "too deep": docker(b"[" * 100_000 + b"]" * 100_000),
    "too deep inside": docker(raw=config(x=json.loads("[" * 900 + "]" * 900))),
    "no end": docker(b"["),
    "no list": docker(b"{}"),
    "no objects": docker(b"[1]"),
    "too large": docker(b"[" + b" " * (9 << 20) + b"]"),
    "keys of config twice": docker(raw=config()[:-1] + b',"os":"windows"}'),
    "half a surrogate": docker(raw=config(author="x").replace(b'"x"', b'"\\ud800"')),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened


@pytest.mark.parametrize("name", REFUSED)
def test_lies_are_refused_and_leave_nothing(name: str, store: Store) -> None:
    with pytest.raises(EngineError):
        docker_archive.load(store, io.BytesIO(REFUSED[name]))
    assert store.images.list() == ()
    assert store.fsck() == ()


def test_what_was_changed_above_loads_as_it_is(tmp_path: Path) -> None:
    for make in (docker, layout):
        with Store.open(tmp_path / make.__name__) as store:
            (loaded,) = docker_archive.load(store, io.BytesIO(make()))
            assert loaded == docker_archive.Loaded(digest(config()), "app:1")  # type: ignore[arg-type]
            assert store.fsck(full=True) == ()


def test_a_name_with_the_manifests_own_digest_is_taken(store: Store) -> None:
    (loaded,) = docker_archive.load(store, io.BytesIO(layout(name="docker.io/library/app@ITS")))
    assert str(loaded.reference).startswith("app@sha256:")
    assert store.fsck(full=True) == ()


@pytest.mark.parametrize("tag", ["", ":12"])
def test_an_image_that_is_not_what_its_name_pins_comes_without_it(store: Store, tag: str) -> None:
    pinned = f"debian{tag}@sha256:" + "1" * 64
    (loaded,) = docker_archive.load(store, io.BytesIO(layout(name=f"docker.io/library/{pinned}")))
    assert loaded.reference is None and store.images.named(Reference.parse(pinned)) is None
    assert store.images.references(loaded.image_id) == ()
    assert store.fsck(full=True) == ()


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_an_archive_that_breaks_in_the_middle_leaves_the_store_clean(damage: str, tmp_path: Path) -> None:
    """The first image is whole, the second is not: the first stays, of the second nothing."""
    big = tarheaders.header(b"big", b"0", 0o644, (0, 0), 300_000, 1) + b"x" * 300_000 + tarheaders.padding(300_000)
    big += tarheaders.END
    second = config(rootfs={"type": "layers", "diff_ids": [digest(LAYER), digest(big)]})
    entries = [
        {"Config": "one.json", "RepoTags": ["one:1"], "Layers": ["a.tar"]},
        {"Config": "two.json", "RepoTags": ["two:1"], "Layers": ["a.tar", "b.tar"]},
    ]
    files = {"manifest.json": json.dumps(entries).encode(), "one.json": config(), "two.json": second, "a.tar": LAYER}
    data = tar({**files, "b.tar": big})
    at = data.rindex(b"x" * 100)
    broken = data[:at] if damage == "cut" else data[:at] + b"y" + data[at + 1 :]
    with Store.open(tmp_path / "store") as store:
        with pytest.raises(EngineError):
            docker_archive.load(store, io.BytesIO(broken))
        assert store.fsck(full=True) == ()
        names = [str(name) for name in (["one:1", "two:1"]) if store.images.lookup(_reference(name)) is not None]
        assert names == ([] if damage == "cut" else ["one:1"])


def _reference(name: str) -> Reference:
    return Reference.parse(name)

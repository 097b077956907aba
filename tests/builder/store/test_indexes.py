"""Indexes: kept byte for byte, what is here of them, made the same every time, gone with their last name."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from builder.errors import ImageInUse, ImageNotFound, InvalidDocument, InvalidReference, PlatformNotFound
from builder.oci import descriptors as d
from builder.oci import digests, platforms
from builder.oci.documents import LIMIT
from builder.oci.manifests import Index, Manifest
from builder.oci.platforms import Platform
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.store.database import Database
from builder.store.images import Deleted, Untagged
from builder.store.indexes import Entry, blobs
from builder.store.schema import MIGRATIONS

HERE = str(platforms.host(os.uname().machine))
ELSEWHERE = "linux/s390x" if HERE != "linux/s390x" else "linux/amd64"
THIRD = "linux/riscv64"
NAME = Reference.parse("multi:latest")


def _manifest(store: Store, image: str) -> d.Descriptor:
    """A manifest that the image came with from somewhere."""
    digest = digests.Digest(image)
    document = json.dumps({"m": image}).encode()
    store.images.put_manifest(digest, document, d.OCI_MANIFEST)
    platform = store.images.get(digest).config.platform
    return d.Descriptor(d.OCI_MANIFEST, digests.of(document), len(document), platform=platform)


def _absent(platform: str) -> d.Descriptor:
    data = platform.encode()
    return d.Descriptor(d.OCI_MANIFEST, digests.of(data), len(data), platform=platforms.parse(platform))


@pytest.fixture
def index(store: Store, make: Any) -> digests.Digest:
    """ "multi": an image for elsewhere, one for this machine, one that is not here, and an attestation of the first."""
    there = make.image(files={"a": "there"}, platform=ELSEWHERE)
    here = make.image(files={"a": "here"}, platform=HERE)
    said = d.Descriptor(
        d.OCI_MANIFEST,
        digests.of(b"attestation"),
        11,
        annotations={"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "x"},
        platform=Platform("unknown", "unknown"),
    )
    made = Index((_manifest(store, there), _manifest(store, here), _absent(THIRD), said))
    document = made.to_json().replace(b",", b", ")
    digest = store.indexes.put(document, d.OCI_INDEX, origin="localhost:1/multi")
    store.images.tag(NAME, digest)
    assert store.indexes.get(digest).raw == document
    return digest


def test_what_is_here_of_an_index(store: Store, index: digests.Digest) -> None:
    members = store.indexes.get(index).members
    assert [str(member.platform) for member in members] == [ELSEWHERE, HERE, THIRD, "None"]
    assert [member.image is not None for member in members] == [True, True, False, False]
    assert [member.is_image for member in members] == [True, True, True, False]
    assert store.indexes.find(members[0].descriptor.digest) is None
    assert list(map(str, store.images.references(index))) == ["docker.io/library/multi:latest"]
    assert members[0].image is not None and store.indexes.of(members[0].image) == (index,)
    assert store.images.references(members[0].image) == (NAME,)
    with pytest.raises(ImageNotFound):
        store.indexes.get(digests.of(b"nothing"))
    assert store.fsck(full=True) == ()


def test_a_name_means_the_image_for_this_machine_unless_another_is_asked_for(
    store: Store, index: digests.Digest
) -> None:
    members = store.indexes.get(index).members
    assert store.images.resolve("multi") == store.images.resolve(index) == members[1].image
    assert store.images.resolve("multi", platform=platforms.parse(ELSEWHERE)) == members[0].image
    assert store.images.target("multi") == store.images.target(digests.short(index)) == index
    with pytest.raises(PlatformNotFound, match="multi was found but does not provide the specified platform") as caught:
        store.images.resolve("multi", platform=platforms.parse(THIRD))
    assert THIRD in caught.value.message and ELSEWHERE in (caught.value.hint or "")
    store.images.remove("multi", platforms=[platforms.parse(HERE)])
    assert store.images.resolve("multi") == members[0].image


def test_an_image_alone_is_for_its_platform_only(store: Store, make: Any) -> None:
    image = make.image("one", platform=ELSEWHERE)
    assert store.images.resolve("one") == store.images.resolve("one", platform=platforms.parse(ELSEWHERE)) == image
    with pytest.raises(PlatformNotFound):
        store.images.resolve("one", platform=platforms.parse(HERE))


@pytest.mark.parametrize(
    ("asked", "got"), [("linux/arm/v7", "linux/arm/v7"), ("linux/arm/v6", "linux/arm/v6"), ("linux/arm/v8", None)]
)
def test_the_very_variant_comes_first(store: Store, make: Any, asked: str, got: str | None) -> None:
    found = {each: make.image(files={"a": each}, platform=each) for each in ("linux/arm/v6", "linux/arm/v7")}
    store.images.tag(NAME, store.indexes.make(list(found.values())))
    chosen = store.images.resolve("multi", platform=platforms.parse(asked))
    assert chosen == found[got or "linux/arm/v6"]


def test_an_image_that_comes_later_is_a_member_at_once(store: Store, make: Any, index: digests.Digest) -> None:
    image = make.image(files={"a": "third"}, platform=THIRD)
    store.images.put_manifest(image, THIRD.encode(), d.OCI_MANIFEST)
    assert store.indexes.get(index).members[2].image == image
    assert store.images.resolve("multi", platform=platforms.parse(THIRD)) == image


def test_an_index_made_of_the_same_images_is_the_same(store: Store, make: Any, root: Path, maker: Any) -> None:
    def images(maker: Any) -> list[digests.Digest]:
        return [maker.image(files={"a": each}, platform=each) for each in (HERE, ELSEWHERE)]

    first = store.indexes.make(images(make), annotations={"k": "v"})
    with Store.open(root.parent / "other") as other:
        assert other.indexes.make(images(maker(other)), annotations={"k": "v"}) == first
    made = store.indexes.get(first)
    assert made.made and [str(member.platform) for member in made.members] == [HERE, ELSEWHERE]
    for member in made.members:
        assert member.image is not None and member.made
        manifest = Manifest.from_json(store.indexes.kept(member) or b"", media_type=member.descriptor.media_type)
        config = store.images.get(member.image).config
        assert [layer.digest for layer in manifest.layers] == list(config.diff_ids)
        assert store.images.manifests(member.image) == (), "nobody outside has it"
        validate.image(store, member.image, full=True)
    entry = Entry(made.members[0].image, platform=Platform("linux", "arm", "v5"), annotations={"x": "y"})
    again = store.indexes.get(store.indexes.make([entry])).members[0]
    assert str(again.platform) == "linux/arm/v5" and again.descriptor.annotations == {"x": "y"}
    assert again.image == made.members[0].image


def test_what_is_no_index_is_refused(store: Store) -> None:
    for document in (b"{}", b'{"schemaVersion": 2, "manifests": [], "layers": []}', b"[" * 10_000):
        with pytest.raises(InvalidDocument):
            store.indexes.put(document, d.OCI_INDEX)


def test_origins_are_remembered_newest_first(root: Path, maker: Any) -> None:
    now = iter(range(1, 10_000))
    with Store.open(root, clock=lambda: next(now)) as store:
        index = store.indexes.make([maker(store).image()])
        for number in range(30):
            store.indexes.add_origin(index, f"host/{number}")
        store.indexes.add_origin(index, "host/25")
        assert store.indexes.origins(index)[:3] == ("host/25", "host/29", "host/28")
        assert len(store.indexes.origins(index)) == 20


class TestCollection:
    """An index stays while a name points at it, and what belongs to it while it stays."""

    def test_a_named_index_without_images_stays(self, store: Store, make: Any, root: Path) -> None:
        index = store.indexes.put(Index((_absent(THIRD),)).to_json(), d.OCI_INDEX, origin="host/multi")
        store.images.tag(NAME, index)
        store.close()
        with Store.open(root) as after:
            assert after.collect(cache_budget=0, dangling=True).items == ()
            assert after.fsck() == ()
            assert after.indexes.origins(index) == ("host/multi",)
            with pytest.raises(PlatformNotFound, match="does not provide any platform"):
                after.images.resolve("multi")
            assert after.images.remove("multi") == (Untagged(NAME), Deleted(index))
            assert [item.name for item in after.collect().of("index")] == [index]
            assert after.indexes.find(index) is None and after.indexes.origins(index) == ()

    def test_an_empty_index_that_no_user_named_goes_with_what_dangles(
        self, store: Store, make: Any, root: Path
    ) -> None:
        index = store.indexes.make([make.image(files={"a": "1"})])
        store.images.tag(Reference.parse(f"multi@{index}"), index)
        empty = store.indexes.put(Index((_absent(THIRD),)).to_json(), d.OCI_INDEX)
        store.images.tag_all([NAME, Reference.parse(f"multi@{empty}")], empty)
        store.close()
        with Store.open(root) as after:
            assert after.collect().items == ()
            assert [item.name for item in after.collect(dangling=True).of("index")] == [index]
            assert after.images.target("multi") == empty

    def test_an_index_is_kept_while_its_maker_lives_and_then_like_its_images(
        self, store: Store, make: Any, root: Path
    ) -> None:
        image = make.image(files={"a": "1"})
        index = store.indexes.make([image])
        with Store.open(root) as other:
            assert other.collect(dangling=True).items == () and not other.indexes.forget_unnamed(index)
        store.close()
        with Store.open(root) as other:
            assert other.collect().items == ()
            assert [item.name for item in other.collect(dangling=True).items][:2] == [image, index]

    def test_an_index_that_was_made_for_elsewhere_goes_unless_it_has_a_name(self, store: Store, make: Any) -> None:
        image = make.image(files={"a": "1"})
        index = store.indexes.make([image])
        store.images.tag(NAME, index)
        assert not store.indexes.forget_unnamed(index)
        store.images.untag(NAME)
        assert store.indexes.forget_unnamed(index) and not store.indexes.forget_unnamed(index)
        assert store.indexes.find(index) is None and store.images.get(image).id == image

    def test_blobs_of_attestations_stay_with_the_index(self, store: Store, make: Any, root: Path) -> None:
        loose, statement, config = (store.content.put(data) for data in (b"loose", b"statement", b"{}"))
        said = Manifest(
            config=d.Descriptor(d.OCI_CONFIG, config, 2),
            layers=(d.Descriptor("application/vnd.in-toto+json", statement, 9),),
        ).to_json()
        image = make.image(files={"a": "1"})
        attestation = d.Descriptor(
            d.OCI_MANIFEST, store.indexes.keep(said), len(said), platform=Platform("unknown", "unknown")
        )
        index = store.indexes.put(Index((_manifest(store, image), attestation)).to_json(), d.OCI_INDEX)
        store.images.tag(NAME, index)
        store.close()
        with Store.open(root) as after:
            assert [item.name for item in after.collect(cache_budget=0).items] == [loose]
            assert after.indexes.kept(after.indexes.get(index).members[1]) == said
            after.images.remove("multi")
        with Store.open(root) as after:
            gone = after.collect(cache_budget=0)
            assert {item.name for item in gone.of("blob")} == {digests.of(said), statement, config}
            assert os.listdir(root / "content") == []


class TestRemoval:
    """docker's rules for rmi, with several images below one name."""

    def test_with_its_last_name_all_its_images_go(self, store: Store, index: digests.Digest) -> None:
        here = [member.image for member in store.indexes.get(index).members if member.image]
        store.images.tag(Reference.parse("more"), index)
        assert store.images.remove("more") == (Untagged(Reference.parse("more:latest")),)
        gone = store.images.remove("multi")
        assert gone[0] == Untagged(NAME) and {each.id for each in gone[1:] if isinstance(each, Deleted)} == set(here)
        assert store.images.list() == ()

    def test_an_image_with_a_name_of_its_own_stays(self, store: Store, index: digests.Digest) -> None:
        image = store.images.resolve("multi")
        store.images.tag(Reference.parse("own"), image)
        store.images.remove("multi")
        assert [one.id for one in store.images.list()] == [image]
        validate.image(store, image, full=True)

    def test_one_platform_goes_and_the_name_stays(self, store: Store, index: digests.Digest) -> None:
        image = store.images.resolve("multi", platform=platforms.parse(ELSEWHERE))
        assert store.images.remove("multi", platforms=[platforms.parse(ELSEWHERE)]) == (Deleted(image),)
        assert store.indexes.get(index).members[0].image is None
        assert store.images.target("multi") == index
        with pytest.raises(PlatformNotFound):
            store.images.remove("multi", platforms=[platforms.parse(ELSEWHERE)])
        kept = store.images.resolve("multi")
        store.images.tag(Reference.parse("own"), kept)
        with pytest.raises(ImageInUse, match="it is also what own:latest names"):
            store.images.remove("multi", platforms=[platforms.parse(HERE)])

    def test_a_container_keeps_the_image_below_an_index(self, store: Store, index: digests.Digest) -> None:
        image = store.images.resolve("multi")
        container = store.containers.create(image=image, layer=None, config="{}")
        with pytest.raises(ImageInUse, match="must force"):
            store.images.remove("multi")
        with pytest.raises(ImageInUse, match="running container"):
            store.images.remove("multi", platforms=[platforms.parse(HERE)], running=[container.id], force=True)
        assert store.images.target("multi") == index, "a refusal changes nothing"
        assert Deleted(image) in store.images.remove("multi", force=True)

    def test_by_id(self, store: Store, index: digests.Digest) -> None:
        one, other = (member.image for member in store.indexes.get(index).members[:2])
        assert one is not None and other is not None
        assert store.images.remove(digests.short(one)) == (Deleted(one),), "the other is still what the name means"
        assert store.images.remove(digests.short(index)) == (Untagged(NAME), Deleted(other))


def test_users_see_an_index_once(store: Store, make: Any, index: digests.Digest) -> None:
    own = store.images.resolve("multi")
    store.images.tag(Reference.parse("own:1"), own)
    lone = store.indexes.make([own])
    store.images.tag(Reference.parse("lone:1"), lone)
    none = store.indexes.put(Index((_absent(THIRD),)).to_json(), d.OCI_INDEX)
    store.images.tag(Reference.parse("none:1"), none)
    shown = {row.id: {name.familiar() for name in row.references} for row in store.images.shown()}
    assert shown == {index: {"multi:latest"}, own: {"own:1", "lone:1"}, none: {"none:1"}}
    assert {row.id: row.size for row in store.images.shown()} == {index: 9, own: 4, none: 0}
    store.images.untag(Reference.parse("none:1"))
    store.images.remove("multi", platforms=[platforms.parse(ELSEWHERE)])
    assert [row.id for row in store.images.shown()] == [own]


def test_what_a_registry_was_sent_of_an_index_is_no_row_of_its_own(store: Store, make: Any) -> None:
    images = [make.image(files={"a": each}, platform=each) for each in (HERE, ELSEWHERE)]
    made = store.indexes.make(images)
    sent = store.indexes.make(images, annotations={"as": "sent"})
    digest = Reference.parse(f"multi@{sent}")
    store.images.tag(NAME, made)
    store.images.tag(digest, sent)
    assert [(row.id, set(row.references)) for row in store.images.shown()] == [(made, {NAME, digest})]
    store.images.untag(NAME)
    assert [(row.id, row.references) for row in store.images.shown()] == [(sent, (digest,))]
    for at, image in enumerate(images):
        store.images.tag(Reference.parse(f"own:{at}"), image)
    assert {row.id for row in store.images.shown()} == set(images)


def test_indexes_of_an_older_store_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "db"
    Database(path, migrations=MIGRATIONS[:6]).close()
    members = [{"mediaType": d.OCI_MANIFEST, "digest": digests.of(each), "size": 1} for each in (b"1", b"2")]
    document = json.dumps({"schemaVersion": 2, "manifests": members}).encode()
    connection = sqlite3.connect(path)
    connection.execute("INSERT INTO images VALUES ('image', NULL, 'pull', 'linux/amd64', NULL, 1, x'7b7d')")
    connection.execute("INSERT INTO manifests VALUES (?, 'image', 'x', x'7b7d')", (digests.of(b"2"),))
    connection.execute("INSERT INTO indexes VALUES ('index', 'x', 1, ?)", (document,))
    connection.execute("INSERT INTO index_images VALUES ('index', 0, 'image')")
    connection.commit()
    connection.close()
    new = Database(path)
    assert new.rows("SELECT manifest FROM index_members ORDER BY position") == [
        (digests.of(b"1"),),
        (digests.of(b"2"),),
    ]
    assert new.rows("SELECT * FROM index_images") == [("index", 1, "image", "linux/amd64")]
    new.close()


def test_a_layer_that_an_index_lists_as_a_manifest_is_not_read_as_one(store: Store) -> None:
    layer = store.content.put(bytes(LIMIT + 1))
    described = d.Descriptor(d.OCI_MANIFEST, layer, LIMIT + 1, platform=Platform("unknown", "unknown"))
    digest = store.indexes.put(Index((described,)).to_json(), d.OCI_INDEX)
    assert store.indexes.kept(store.indexes.get(digest).members[0]) is None
    assert layer not in blobs(store.database, store.content)


def test_what_reads_as_an_id_is_no_name(store: Store, make: Any) -> None:
    with pytest.raises(InvalidReference, match="ambiguous tag"):
        store.images.tag(Reference.parse("sha256:" + "a" * 64), make.image())

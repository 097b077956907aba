"""Images and references: names move as a whole, short ids, digests, docker's rules for removal."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import AmbiguousId, ImageInUse, ImageNotFound, InvalidImage, InvalidReference
from builder.oci import descriptors, digests
from builder.oci.configs import History, ImageConfig
from builder.oci.references import Reference
from builder.store import Store, validate
from builder.store.images import BASE_ID, Deleted, Untagged


def _names(store: Store) -> list[str]:
    return sorted(reference.familiar() for one in store.images.list() for reference in one.references)


def test_putting_an_image_again_gives_the_same_id(store: Store, make: Any) -> None:
    first, again = make.image("one", files={"a": "1"}), make.image("two", files={"a": "1"})
    assert first == again
    validate.image(store, first, full=True)
    assert _names(store) == ["one:latest", "two:latest"]


def test_an_image_whose_layer_was_lost_is_whole_when_it_is_put_again(store: Store, make: Any) -> None:
    image = make.image("one", files={"a": "1"})
    shutil.rmtree(store.snapshots.path(store.images.layers(image)[0]))
    with pytest.raises(InvalidImage):
        validate.image(store, image)
    assert make.image("one", files={"a": "1"}) == image
    validate.image(store, image, full=True)


@pytest.mark.parametrize("wrong", ["count", "digest", "unhashed", "history"])
def test_what_contradicts_itself_is_no_image(store: Store, make: Any, wrong: str) -> None:
    layer = make.layer({"a": "1"}, hashed=wrong != "unhashed")
    diff_id = digests.DiffID(digests.of(b"x")) if wrong in ("digest", "unhashed") else layer.diff_id
    history = (History(),) * (2 if wrong == "history" else 1)
    config = ImageConfig("amd64", "linux", diff_ids=() if wrong == "count" else (diff_id,), history=history)
    with pytest.raises(InvalidImage):
        store.images.put(config, [layer.id])
    assert store.images.list() == ()


def test_a_foreign_image_keeps_its_bytes_and_its_history(store: Store, make: Any) -> None:
    layer = make.layer({"a": "1"})
    config = ImageConfig("amd64", "linux", diff_ids=(layer.diff_id,), history=(History(), History()))
    raw = config.to_json().replace(b",", b", ")
    image = store.images.put(config, [layer.id], raw=raw, origin="load")
    assert (image, store.images.get(image).raw) == (digests.of(raw), raw)
    validate.image(store, image, full=True)
    assert store.fsck(full=True) == ()


def test_a_moved_name_says_what_it_meant_and_leaves_the_old_image(store: Store, make: Any) -> None:
    old, new = make.image("app", files={"a": "1"}), make.image(files={"a": "2"})
    assert store.images.tag(Reference.parse("app"), new) == old
    assert store.images.resolve("app") == store.images.resolve("docker.io/library/app:latest") == new
    assert [one.id for one in store.images.list() if one.dangling] == [old]


def test_all_names_or_none(store: Store, make: Any) -> None:
    make.image("one", files={"a": "1"})
    with pytest.raises(ImageNotFound):
        store.images.tag_all([Reference.parse("x"), Reference.parse("y")], digests.of(b"nothing"))
    assert _names(store) == ["one:latest"]


def test_pruning_spares_what_others_name_or_are_at_work_with(store: Store, make: Any) -> None:
    named, dangling = make.image("one", files={"a": "1"}), make.image(files={"a": "2"})
    with Store.open(store.root) as other:
        assert other.images.prune(named, tagged=False) == ()
        # What this process has just made may be about to get a name.
        assert other.images.prune(dangling, tagged=True) == ()
    assert store.images.prune(dangling, tagged=False) == (Deleted(dangling),)
    assert store.images.prune(dangling, tagged=False) == ()
    assert len(store.images.prune(named, tagged=True)) == 2
    assert store.images.list() == ()


def test_ids_and_their_beginnings(store: Store, make: Any) -> None:
    ids = [make.image(files={"n": str(number)}) for number in range(20)]
    for image in ids:
        assert store.images.resolve(image) == image
        assert store.images.resolve(image.removeprefix("sha256:")) == image
        assert store.images.resolve(digests.short(image)) == image
    # Twenty ids have only sixteen first digits: two of them share one.
    firsts = [image[7] for image in ids]
    shared = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(AmbiguousId) as caught:
        store.images.resolve(shared)
    assert set(caught.value.matches) == {image for image in ids if image[7] == shared}
    for missing in ("sha256:" + "0" * 64, "nothing", "fffffffffffffff"):
        with pytest.raises(ImageNotFound):
            store.images.resolve(missing)
    with pytest.raises(InvalidReference):
        store.images.resolve("UPPER")


def test_where_a_name_is_meant_a_few_letters_are_no_id(store: Store, make: Any) -> None:
    image = make.image(files={"a": "1"})
    digits = image.removeprefix("sha256:")
    for text in (digits[:12], f"sha256:{digits[:12]}", digits, image):
        assert store.images.resolve(text, shortest=BASE_ID) == image
    for text in (digits[0], digits[:11], f"sha256:{digits[:11]}"):
        assert store.images.resolve(text) == image
        with pytest.raises(ImageNotFound):
            store.images.resolve(text, shortest=BASE_ID)


def test_a_name_that_looks_like_an_id_wins(store: Store, make: Any) -> None:
    image = make.image(files={"a": "1"})
    other = make.image(digests.short(image), files={"a": "2"})
    assert store.images.resolve(digests.short(image)) == other


def test_a_manifests_digest_finds_the_image_under_its_repository_only(store: Store, make: Any) -> None:
    image = make.image("app:1", files={"a": "1"})
    digest = store.images.put_manifest(image, b'{"m": 1}', descriptors.OCI_MANIFEST)
    assert store.images.resolve(f"app@{digest}") == image
    assert store.images.manifests(image) == ((digest, descriptors.OCI_MANIFEST, b'{"m": 1}'),)
    with pytest.raises(ImageNotFound):
        store.images.resolve(f"other@{digest}")


REPOSITORIES = st.sampled_from(["app", "app-x", "app.x", "app/x", "appx", "ap", "localhost:5000/app", "localhost/app"])
TAGS = st.sampled_from([":latest", ":1", ":a-b", ":Z", ":_", "@sha256:" + "0" * 64, ":1@sha256:" + "f" * 64])


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.sets(st.tuples(REPOSITORIES, TAGS), min_size=1))
def test_tags_of_a_repository_are_its_own_and_all(store: Store, make: Any, names: set[tuple[str, str]]) -> None:
    image = make.image(files={"a": "1"})
    references = sorted(Reference.parse(repository + tag) for repository, tag in names)
    store.images.tag_all(references, image)
    for repository in {reference.name for reference in references}:
        wanted = {reference for reference in references if reference.name == repository}
        assert set(store.images.tags_of(repository)) == wanted
    for reference in references:
        store.images.untag(reference)


class TestRemoval:
    """docker's rules for rmi."""

    def test_by_name_only_the_name_goes_while_others_are_there(self, store: Store, make: Any) -> None:
        image = make.image("a", "b")
        assert store.images.remove("a") == (Untagged(Reference.parse("a:latest")),)
        assert store.images.remove("b") == (Untagged(Reference.parse("b:latest")), Deleted(image))
        with pytest.raises(ImageNotFound):
            store.images.remove("b")

    def test_by_id_all_names_of_one_repository_go(self, store: Store, make: Any) -> None:
        image = make.image("a:1", "a:2")
        gone = store.images.remove(digests.short(image))
        assert gone == (Untagged(Reference.parse("a:1")), Untagged(Reference.parse("a:2")), Deleted(image))

    def test_by_id_several_repositories_need_force(self, store: Store, make: Any) -> None:
        image = make.image("a", "b")
        with pytest.raises(ImageInUse, match=r"must be forced.*multiple repositories") as caught:
            store.images.remove(image)
        assert caught.value.forceable
        assert _names(store) == ["a:latest", "b:latest"]
        assert store.images.remove(image, force=True)[-1] == Deleted(image)

    def test_a_container_keeps_its_image_unless_forced(self, store: Store, make: Any) -> None:
        image = make.image("a")
        container = store.containers.create(image=image, layer=None, config="{}")
        with pytest.raises(ImageInUse, match=r"unable to remove repository reference \"a\" \(must force\)"):
            store.images.remove("a")
        with pytest.raises(ImageInUse, match="is being used by stopped container"):
            store.images.remove(image)
        with pytest.raises(ImageInUse, match=r"cannot be forced.*running container") as caught:
            store.images.remove(image, force=True, running=[container.id])
        assert not caught.value.forceable
        assert _names(store) == ["a:latest"], "a refusal changes nothing"
        assert store.images.remove("a", force=True)[-1] == Deleted(image)

    def test_an_image_with_children_cannot_be_removed(self, store: Store, make: Any) -> None:
        parent = make.image("parent")
        make.image("child", files={"c": "1"}, parent=parent)
        with pytest.raises(ImageInUse, match=r"cannot be forced.*dependent child images"):
            store.images.remove(parent, force=True)
        # By its name it only loses the name, once there is another.
        store.images.tag(Reference.parse("again"), parent)
        assert store.images.remove("parent") == (Untagged(Reference.parse("parent:latest")),)

    def test_ancestors_without_a_name_go_with_their_last_descendant(self, store: Store, make: Any) -> None:
        first = make.image(files={"1": "1"})
        second = make.image(files={"2": "2"}, parent=first)
        third = make.image("third", files={"3": "3"}, parent=second)
        gone = store.images.remove("third")
        assert gone[1:] == (Deleted(third), Deleted(second), Deleted(first))
        assert store.images.list() == ()

    @pytest.mark.parametrize("why", ["named", "used", "sibling", "asked"])
    def test_ancestors_stay_when_something_needs_them(self, store: Store, make: Any, why: str) -> None:
        first = make.image(*(["first"] if why == "named" else []), files={"1": "1"})
        second = make.image(files={"2": "2"}, parent=first)
        last = make.image("last", files={"3": "3"}, parent=second)
        if why == "used":
            store.containers.create(image=second, layer=None, config="{}")
        if why == "sibling":
            make.image("sibling", files={"4": "4"}, parent=second)
        gone = store.images.remove("last", prune_parents=why != "asked")
        left = {one.id for one in store.images.list()}
        assert last not in left and first in left
        assert (second in left) == (why != "named")
        assert Deleted(last) in gone

"""Images as trees: names on top, an image for each platform below, with what is here of it and what that takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.errors import ImageNotFound
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.digests import DiffID, Digest
    from builder.store.indexes import Member
    from builder.store.listing import Listed
    from builder.store.snapshots import Layer


@dataclass(frozen=True, slots=True)
class Branch:
    """An image below its name. `usage` are the bytes on the disk, `content` those of what a registry would be sent."""

    platform: str
    id: Digest
    here: bool
    usage: int
    content: int
    used: bool
    """Whether a container has it."""


@dataclass(frozen=True, slots=True)
class Tree:
    """An image, or an index with its images as branches. Layers that several share count once in `usage`."""

    names: tuple[str, ...]
    id: Digest
    usage: int
    content: int
    used: bool
    branches: tuple[Branch, ...] = ()


def tree(engine: Engine, shown: Iterable[Listed]) -> tuple[Tree, ...]:
    """The images that `images` shows. Nothing is asked of registries."""
    return tuple(_Trees(engine).trees(shown))


class _Trees:
    def __init__(self, engine: Engine) -> None:
        self._store = engine.store
        self._layers = {layer.id: layer for layer in engine.store.snapshots.list()}
        self._kept: Mapping[DiffID, int] = engine.store.packed.kept()
        self._used = engine.store.images.users()

    def trees(self, shown: Iterable[Listed]) -> Iterable[Tree]:
        for image in shown:
            named: dict[Digest, list[str]] = {}
            for each in image.references:
                found = named.setdefault(self._store.images.named(each) or image.id, [])
                found += [each.familiar()] if each.tag else []
            # What only goes by a digest of an image that has a name is no tree of its own.
            tagged = {target: names for target, names in named.items() if names}
            for target, names in (tagged or {image.id: []}).items():
                with suppress(ImageNotFound):  # removed meanwhile
                    yield self._tree(target, tuple(names))

    def _tree(self, target: Digest, names: tuple[str, ...]) -> Tree:
        index = self._store.indexes.find(target)
        if index is None:
            content, used = self._content(target), target in self._used
            return Tree(names, target, self._usage([target]), content, used)
        branches = tuple(self._branch(member) for member in index.members if member.is_image)
        return Tree(
            names,
            target,
            self._usage([member.image for member in index.members if member.image is not None]),
            sum(branch.content for branch in branches),
            any(branch.used for branch in branches),
            branches,
        )

    def _branch(self, member: Member) -> Branch:
        platform = str(member.platform or "unknown")
        if member.image is None:
            return Branch(platform, member.descriptor.digest, here=False, usage=0, content=0, used=False)
        content = self._content(member.image, member)
        used = member.image in self._used
        return Branch(platform, member.image, here=True, usage=self._usage([member.image]), content=content, used=used)

    def _usage(self, images: Iterable[Digest]) -> int:
        """Bytes of the files of all their layers, and of the packed blobs that are kept with these."""
        found = {layer.id: layer for image in images for layer in self._of(image)}
        return sum((layer.size or 0) + self._kept_of(layer) for layer in found.values())

    def _kept_of(self, layer: Layer) -> int:
        return 0 if layer.diff_id is None else self._kept.get(layer.diff_id, 0)

    def _content(self, image: Digest, member: Member | None = None) -> int:
        """Bytes of its manifest and of all that this names; without one, of its config and its layers' tars."""
        from builder.oci.manifests import Manifest

        raw = len(self._store.images.get(image).raw)
        document = None if member is None else self._store.indexes.kept(member)
        if document is None:
            document = next((each for _, _, each in self._store.images.manifests(image)), None)
        if document is None:
            return raw + sum(layer.tar_size or 0 for layer in self._of(image))
        return len(document) + raw + sum(layer.size for layer in Manifest.from_json(document).layers)

    def _of(self, image: Digest) -> list[Layer]:
        return [self._layers[layer] for layer in self._store.images.layers(image) if layer in self._layers]

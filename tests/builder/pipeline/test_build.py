"""What a build does when others use the store at the same time."""

from pathlib import Path

import pytest

from builder.oci.digests import Digest
from builder.oci.platforms import Platform
from builder.oci.references import Reference
from builder.pipeline.build import build
from builder.pipeline.request import BuildRequest
from builder.store import Store
from builder.store.validate import image as validate
from runtime.container import Launcher

pytestmark = pytest.mark.root


def no_launcher() -> Launcher:
    raise AssertionError("nothing runs")


def made(root: Path, name: str) -> Digest:
    """An image of one file, by another process as far as leases tell."""
    with Store.open(root) as store:
        request = BuildRequest(f"FROM scratch\nCOPY <<INLINE /{name}\n{name}\nINLINE\n".encode(), tags=(name,))
        return build(request, store, no_launcher, clock=lambda: 0.0).image_id


def test_a_base_that_is_removed_between_its_plan_and_its_use_is_looked_for_again(tmp_path: Path) -> None:
    root = tmp_path / "store"
    made(root, "first"), made(root, "second")
    asked: list[str] = []

    def fetch(name: str, platform: Platform | None) -> Digest:
        asked.append(name)
        if asked == ["first", "second"]:
            with Store.open(root) as other:
                other.images.untag(Reference.parse("first"))
                other.collect(cache_budget=0, dangling=True)
        if asked == ["first", "second", "first"]:
            made(root, name)
        with Store.open(root) as other:
            return other.images.resolve(name)

    dockerfile = b"FROM first\nCOPY --from=second /second /\n"
    with Store.open(root) as store:
        result = build(BuildRequest(dockerfile, pull=True), store, no_launcher, clock=lambda: 0.0, fetch=fetch)
        validate(store, result.image_id, full=True)
    assert asked == ["first", "second"] * 2

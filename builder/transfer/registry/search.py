"""Search: the index that docker.io and some others offer beside the distribution protocol (version 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlencode

from builder.errors import RegistryNotFound, Unsupported
from builder.oci import documents
from builder.oci.references import DEFAULT_REGISTRY
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.oci.documents import Object
    from builder.transfer.registry.session import Registries

INDEX = "index.docker.io"
_LIMIT = 8 << 20


@dataclass(frozen=True, slots=True)
class Hit:
    """One repository that was found."""

    name: str
    description: str
    stars: int
    official: bool
    automated: bool


def search(registries: Registries, term: str, *, limit: int) -> tuple[Hit, ...]:
    """What a registry finds for `term`, which may begin with its host. Raises Unsupported, RegistryErrors."""
    registry, _, rest = term.partition("/")
    if rest and (any(mark in registry for mark in ".:") or registry == "localhost"):
        term = rest
    else:
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY:
        registry, term = INDEX, term.removeprefix("library/")
    query = urlencode({"q": term, "n": limit})
    host = registries.host(registry)
    try:
        reply = host.call("GET", f"/v1/search?{query}", scopes=(), limit=_LIMIT, what=f"search for {term!r}")
    except RegistryNotFound as err:
        raise Unsupported(
            f"registry {registry} offers no search", hint="its own pages or its tags may help: lamina pull -a"
        ) from err
    results = documents.load(reply.body, "search results").objects("results")
    found = [_hit(each) for each in results]
    return tuple(sorted(found, key=lambda hit: -hit.stars)[:limit])


def _hit(source: Object) -> Hit:
    return Hit(
        name=source.string("name") or "",
        description=source.string("description") or "",
        stars=source.integer("star_count", default=0),
        official=source.boolean("is_official"),
        automated=source.boolean("is_automated"),
    )

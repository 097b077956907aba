"""One repository of one registry, as the verbs of the distribution specification: manifests, blobs, tags, uploads.

Each verb is one exchange, checked: a manifest has the digest that it was asked for by, its media type is that of its
content. What to do with the answers is `pull`'s and `push`'s business.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from builder.errors import (
    DigestMismatch,
    InvalidDigest,
    InvalidDocument,
    LimitExceeded,
    RegistryFailed,
    RegistryNotFound,
    Unsupported,
)
from builder.oci import digests, documents
from builder.oci.descriptors import INDEX_TYPES, MANIFEST_TYPES, Descriptor
from builder.oci.manifests import Index
from builder.oci.references import valid_tag
from builder.transfer.registry.client import Cut
from builder.transfer.registry.replies import absolute, number
from runtime.values import dataclass

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.transfer.registry.client import Answer, Body, Client
    from builder.transfer.registry.endpoints import Endpoint
    from builder.transfer.registry.host import Host, Reply

_ACCEPT = ", ".join([*sorted(MANIFEST_TYPES), *sorted(INDEX_TYPES)])
_LIST_MAX = 64 << 20
"""Bytes of a list, all its pages together."""
_PAGES_MAX = 1000
_FINISH = 300.0
"""Seconds that a registry may need to check a large blob before it says that it has it."""
_OLD = "application/vnd.docker.distribution.manifest.v1"


class NotAnImage(Unsupported):
    """What a name means is whole, but another thing than a container image: a build cache, a signature, a chart."""

    def __init__(self, name: str, why: str, hint: str = "") -> None:
        super().__init__(
            f"{name} is no container image: {why}",
            hint=hint or "it is an artifact of another kind, which only the tool that made it can use",
        )


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest or index: its descriptor, and its bytes."""

    descriptor: Descriptor
    data: bytes


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way: where its next bytes go, how many have come, and the least bytes of a chunk."""

    location: str
    offset: int = 0
    least: int = 0


class Repository:
    """A repository at an endpoint. May be used by several threads."""

    def __init__(self, host: Host, endpoint: Endpoint, *, push: bool = False) -> None:
        self.endpoint = endpoint
        self.host = host
        self.client: Client = host.client
        self._path = f"{endpoint.root}/{endpoint.repository}"
        self._query = f"?{urlencode({'ns': endpoint.namespace})}" if endpoint.namespace else ""
        self._scopes = (f"repository:{endpoint.repository}:pull{',push' if push else ''}",)

    # --- manifests ---

    def head(self, reference: str) -> Descriptor | None:
        """What tag or digest `reference` is, without its bytes; None when the registry does not say enough.

        Raises RegistryErrors.
        """
        reply = self.host.call(
            "HEAD",
            f"{self._path}/manifests/{reference}{self._query}",
            scopes=self._scopes,
            headers={"Accept": _ACCEPT},
            what=self._manifest(reference),
        )
        size = number(reply.headers.get("Content-Length", ""))
        try:
            digest = digests.parse(reply.headers.get("Docker-Content-Digest", ""))
        except InvalidDigest:
            return None
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        known = media_type in MANIFEST_TYPES or media_type in INDEX_TYPES
        return Descriptor(media_type, digest, size) if known and size is not None else None

    def manifest(self, reference: str, expected: Descriptor | None = None) -> Fetched:
        """The manifest or index `reference` (tag or digest); `expected` is what named it.

        Raises RegistryErrors, LimitExceeded, DigestMismatch, NotAnImage; InvalidDocument comes when it is parsed.
        """
        what = self._manifest(reference)
        reply = self.host.call(
            "GET",
            f"{self._path}/manifests/{reference}{self._query}",
            scopes=self._scopes,
            headers={"Accept": _ACCEPT},
            limit=documents.LIMIT,
            what=what,
        )
        digest = digests.of(reply.body)
        wanted = reference if ":" in reference else reply.headers.get("Docker-Content-Digest", "")
        if expected is not None:
            wanted = expected.digest
        if wanted:
            found = _digest_like(wanted, reply.body)
            if found != wanted:
                raise DigestMismatch(f"{what} from registry {self.endpoint.host}", wanted[:200], found)
        if expected is not None and len(reply.body) != expected.size:
            raise self.failed(f"{what} has {len(reply.body)} bytes, its descriptor says {expected.size}")
        media_type = reply.headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type in ("", "application/json", "text/plain", "application/octet-stream"):
            # Static file servers do not know better; what is in the document then counts.
            media_type = _stated(reply.body, expected)
        if media_type.startswith(_OLD):
            raise self.failed(f"{what} has the form of 2015 (schema 1), which is not supported", "push it again")
        if media_type not in MANIFEST_TYPES and media_type not in INDEX_TYPES:
            if media_type.startswith("application/vnd."):
                raise NotAnImage(self.endpoint.name, f"its manifest has media type {media_type[:100]!r}")
            raise self.failed(f"{what} has unsupported media type {media_type[:100]!r}", "it is no container image")
        return Fetched(Descriptor(media_type, digest, len(reply.body)), reply.body)

    def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Push a manifest under a tag or its digest; returns its digest. Raises RegistryErrors, DigestMismatch."""
        self._put(reference, data, media_type)
        return digests.of(data)

    def put_referrer(self, data: bytes, media_type: str) -> bool:
        """Push a manifest that has a subject, under its digest; whether the registry itself lists it as a referrer.

        Raises as `put_manifest`.
        """
        return "OCI-Subject" in self._put(digests.of(data), data, media_type).headers

    def referrers(self, digest: Digest) -> tuple[Descriptor, ...] | None:
        """What the registry lists as referrers of a manifest; None when it keeps no such list. Raises RegistryErrors,
        InvalidDocument.
        """
        found: list[Descriptor] = []
        url, what = f"{self._path}/referrers/{digest}{self._query}", f"referrers of {self.endpoint.name}@{digest}"
        try:
            for reply in self._pages(url, what):
                found += Index.from_json(reply.body).manifests
        except RegistryNotFound:
            return None
        return tuple(found)

    def _put(self, reference: str, data: bytes, media_type: str) -> Reply:
        reply = self.host.call(
            "PUT",
            f"{self._path}/manifests/{reference}",
            scopes=self._scopes,
            headers={"Content-Type": media_type},
            body=lambda: data,
            fine=(200, 201, 202),
            what=self._manifest(reference),
        )
        digest = digests.of(data)
        stated = reply.headers.get("Docker-Content-Digest", "")
        if stated and stated != digest:
            raise DigestMismatch(f"{self._manifest(reference)} on registry {self.endpoint.host}", digest, stated)
        return reply

    def tags(self) -> tuple[str, ...]:
        """All tags, in the registry's order. Raises RegistryErrors, InvalidDocument."""
        found: list[str] = []
        what = f"list of tags of {self.endpoint.name}"
        url = f"{self._path}/tags/list{self._query}{'&' if self._query else '?'}n=1000"
        for reply in self._pages(url, what):
            found += documents.load(reply.body, what, limit=_LIST_MAX).strings("tags") or ()
        bad = next((tag for tag in found if not valid_tag(tag)), None)
        if bad is not None:
            raise InvalidDocument(what, f"has {bad[:200]!r}, which is no tag")
        return tuple(found)

    def _pages(self, url: str, what: str) -> Iterator[Reply]:
        """The answers that a list consists of. Raises LimitExceeded for one that goes on and on."""
        seen: set[str] = set()
        left = _LIST_MAX
        while url and url not in seen:
            if len(seen) == _PAGES_MAX:
                raise LimitExceeded(f"{what} has more than {_PAGES_MAX} pages")
            seen.add(url)
            reply = self.host.call("GET", url, scopes=self._scopes, limit=left, what=what)
            left -= len(reply.body)
            yield reply
            link = reply.headers.get("Link", "")
            target = link[link.find("<") + 1 : link.find(">")] if "rel=" in link and "<" in link else ""
            url = self._local(absolute(reply.url, target)) if target else ""

    # --- blobs ---

    def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob. Raises RegistryErrors."""
        try:
            self.host.call(
                "HEAD", f"{self._path}/blobs/{digest}{self._query}", scopes=self._scopes, what=self.named(digest)
            )
        except RegistryNotFound:
            return False
        return True

    def blob(self, descriptor: Descriptor, limit: int) -> bytes:
        """A small blob, checked. Raises RegistryErrors, LimitExceeded, DigestMismatch."""
        what = self.named(descriptor.digest)
        reply = self.host.call(
            "GET", f"{self._path}/blobs/{descriptor.digest}{self._query}", scopes=self._scopes, limit=limit, what=what
        )
        if digests.of(reply.body) != descriptor.digest:
            raise DigestMismatch(
                f"{what} from registry {self.endpoint.host}", descriptor.digest, digests.of(reply.body)
            )
        if len(reply.body) != descriptor.size:
            raise self.failed(f"{what} has {len(reply.body)} bytes, its descriptor says {descriptor.size}")
        return reply.body

    @contextmanager
    def open_blob(self, digest: Digest, offset: int) -> Iterator[tuple[int, Answer]]:
        """A blob from byte `offset` on: (where the answer really begins, the answer). Raises RegistryErrors, Cut."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self.host.request(
            "GET",
            f"{self._path}/blobs/{digest}{self._query}",
            scopes=self._scopes,
            headers=headers,
            fine=(200, 206, 416) if offset else (200,),
            retry=False,
            what=self.named(digest),
        ) as answer:
            if answer.status == 206:
                if "Content-Range" not in answer.headers:
                    raise Cut("the answer did not say where it begins")
                stated = answer.headers["Content-Range"].removeprefix("bytes ").partition("-")[0]
                if stated.strip() != str(offset):
                    raise self.failed(f"{self.named(digest)} continues at {stated[:20]!r}, not at {offset}")
                yield offset, answer
            else:
                yield 0 if answer.status == 200 else -1, answer

    # --- uploads ---

    def begin(self) -> Upload:
        """Start an upload. Raises RegistryErrors."""
        return self._upload(self._start("", self._scopes))

    def mount(self, digest: Digest, source: str) -> Upload | None:
        """Take a blob over from the repository `source` of the same registry: None when that is done, else an upload
        that was begun instead. Raises RegistryErrors.
        """
        scopes = (*self._scopes, f"repository:{source}:pull")
        reply = self._start("?" + urlencode({"mount": digest, "from": source}), scopes)
        return None if reply.status == 201 else self._upload(reply)

    def _start(self, query: str, scopes: Sequence[str]) -> Reply:
        return self.host.call(
            "POST",
            f"{self._path}/blobs/uploads/{query}",
            scopes=scopes,
            headers={"Content-Length": "0"},
            fine=(201, 202),
            needs="Location",
            what=f"upload to {self.endpoint.name}",
        )

    def resume(self, location: str) -> Upload | None:
        """The upload at `location` as far as it has come, None when the registry does not know it any more."""
        try:
            reply = self.host.call(
                "GET", location, scopes=self._scopes, fine=(204,), what=f"upload to {self.endpoint.name}"
            )
        except (RegistryNotFound, RegistryFailed):
            return None
        return self._upload(reply, location)

    def append(self, upload: Upload, chunk: Body, size: int) -> Upload:
        """Send the next `size` bytes. Raises RegistryErrors, Cut (ask `resume` then)."""
        end = upload.offset + size - 1
        with self.host.request(
            "PATCH",
            upload.location,
            scopes=self._scopes,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(size),
                "Content-Range": f"{upload.offset}-{end}",
            },
            body=chunk,
            fine=(202, 204, 201),
            retry=False,
            what=f"upload to {self.endpoint.name}",
        ) as answer:
            answer.read(1 << 20, "answer")
            return Upload(self._location(answer.headers, answer.url), upload.offset + size, upload.least)

    def finish(self, upload: Upload, digest: Digest, data: Body = bytes, size: int = 0) -> None:
        """End the upload, with its last `size` bytes. Raises RegistryErrors, Cut."""
        parts = urlsplit(upload.location)
        query = urlencode([*parse_qsl(parts.query, keep_blank_values=True), ("digest", digest)])
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        if size and upload.offset:
            headers["Content-Range"] = f"{upload.offset}-{upload.offset + size - 1}"
        with self.host.request(
            "PUT",
            urlunsplit(parts._replace(query=query)),
            scopes=self._scopes,
            headers=headers,
            body=data if size else bytes,
            fine=(201, 204),
            retry=False,
            what=self.named(digest),
            read=_FINISH,
        ) as answer:
            answer.read(1 << 20, "answer")

    def cancel(self, upload: Upload) -> None:
        """Give an upload up; that this fails does no harm, the registry forgets it by itself."""
        try:
            self.host.call("DELETE", upload.location, scopes=self._scopes, fine=(200, 202, 204, 404, 405))
        except (RegistryFailed, RegistryNotFound):
            pass

    def _upload(self, reply: Reply, known: str = "") -> Upload:
        end = number(reply.headers.get("Range", "").removeprefix("bytes=").partition("-")[2])
        least = number(reply.headers.get("OCI-Chunk-Min-Length", ""))
        location = self._location(reply.headers, reply.url) if "Location" in reply.headers else known
        # "0-0" is said of an upload that has nothing and, by the letter, of one that has a byte: begin again then.
        return Upload(location, end + 1 if end else 0, least or 0)

    def _location(self, headers: Mapping[str, str], base: str) -> str:
        if "Location" not in headers:
            raise Cut("the answer did not say where the upload goes on")
        target, here = urlsplit(absolute(base, headers["Location"])), urlsplit(base)
        if not target.netloc:
            raise self.failed("it wants the upload to go on at what is no address")
        if here.scheme == "https" and target.scheme != "https":
            if target.netloc.partition(":")[0] != here.netloc.partition(":")[0]:
                raise self.failed("it wants the upload to go on without TLS, which is refused")
            # Behind a proxy that ends TLS many registries do not know how they were reached.
            target = here._replace(path=target.path, query=target.query)
        return urlunsplit(target)

    # --- helpers ---

    def _local(self, url: str) -> str:
        """Path and query of `url`: a list goes on where it began."""
        parts = urlsplit(url)
        return urlunsplit(("", "", quote(parts.path, safe="/:@%"), parts.query, ""))

    def named(self, digest: Digest) -> str:
        """A blob, for messages."""
        return f"blob {digests.short(digest)} of {self.endpoint.name}"

    def _manifest(self, reference: str) -> str:
        return f"manifest for {self.endpoint.name}{'@' if ':' in reference else ':'}{reference}"

    def failed(self, text: str, hint: str | None = None) -> RegistryFailed:
        """An error about this repository."""
        endpoint = self.endpoint
        return RegistryFailed(endpoint.host, endpoint.repository, f"registry {endpoint.host}: {text}", hint=hint)


def _digest_like(wanted: str, data: bytes) -> str:
    """The digest of `data` by the algorithm of `wanted`; by sha256 for one that we do not know."""
    import hashlib

    algorithm = wanted.partition(":")[0]
    known = algorithm if algorithm in ("sha256", "sha384", "sha512") else "sha256"
    return f"{known}:{hashlib.new(known, data).hexdigest()}"


def _stated(data: bytes, expected: Descriptor | None) -> str:
    if expected is not None:
        return expected.media_type
    return documents.load(data, "manifest").string("mediaType") or "unknown"

"""Build caches in a bucket of an object store that speaks S3, by way of fsspec and s3fs (the extra `s3`).

Objects are called as BuildKit calls them: PREFIX BLOBS_PREFIX DIGEST and PREFIX MANIFESTS_PREFIX NAME. Nothing in a
bucket goes by itself: its own life-cycle rules take what is old. So that they leave what is still used, an object that
an export finds there is copied onto itself when it is older than `touch_refresh`.

Blobs go in blocks, so that memory does not grow with them, and come in blocks into the store's partial blobs, so that
what has come is not fetched again. Keys of the account are in no message.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from builder.errors import BucketFailed, LimitExceeded, NotFound, Unsupported
from builder.oci import digests, documents
from builder.oci.manifests import Manifest
from builder.store.packed import PackedLayer
from builder.transfer import layers, workers
from builder.transfer.caches import packed
from builder.transfer.outer import checked
from builder.transfer.registry.progress import Watched
from parser.redact import hidden
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import DiffID, Digest
    from builder.store import Store
    from builder.store.partial import PartialBlob
    from builder.store.snapshots import LayerID
    from builder.transfer.registry.progress import Teller, Watch

_SECRET = 4
"""Less is no key, and may be part of any word."""
BLOCK = 8 << 20
"""Bytes of an object that are sent or fetched with one request; no part of an upload may have less than 5 MiB."""
_CONNECT, _READ = 15, 60
"""Seconds."""
_BLOCK_TIME, _FIRST, _SHORT = 120, 20, 10
"""Seconds for one request (the library's own limit does not hold for what is sent), and for the first one that asks
whether there is a cache: a bucket that does not answer must not hold a build up."""


@dataclass(frozen=True, slots=True)
class Account:
    """Who asks: what is empty is found as Amazon's own tools find it (variables, files, the machine's role)."""

    key: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """Which bucket, and where in it. The first of `names` is read, all are written. `path_style` None: as the endpoint
    needs it. `touch_refresh` in seconds."""

    bucket: str
    region: str
    names: tuple[str, ...]
    prefix: str = ""
    blobs: str = "blobs/"
    manifests: str = "manifests/"
    endpoint: str = ""
    path_style: bool | None = None
    touch_refresh: float = 24 * 3600.0
    jobs: int = 4


class Bucket:
    """A cache in a bucket."""

    def __init__(self, store: Store, place: Place, account: Account, *, now: float) -> None:
        """`now` in unix seconds. Raises Unsupported without the extra."""
        self.name = f"bucket {place.bucket}/{place.prefix}{place.manifests}{place.names[0]}"
        self._store = store
        self._place = place
        self._secrets = tuple(each for each in (account.key, account.secret, account.token) if len(each) >= _SECRET)
        self._stop = threading.Event()
        self._now = now
        self._files = _connect(place, account)

    def manifests(self) -> tuple[Manifest, ...]:
        """What is under the name."""
        path = self._path(self._place.manifests + self._place.names[0])
        return (Manifest.from_json(self._small(path, documents.LIMIT, _FIRST)),)

    def document(self, blob: Descriptor, limit: int) -> bytes:
        """A small blob."""
        return checked(self._small(self._blob(blob.digest), limit), blob)

    def _small(self, path: str, limit: int, seconds: int = _BLOCK_TIME) -> bytes:
        with self._spoken():
            try:
                data: bytes = self._files.cat_file(path, start=0, end=limit + 1, timeout=seconds)
            except FileNotFoundError as err:
                raise NotFound(f"no build cache in {self.name}: {err}") from err
        if len(data) > limit:
            raise LimitExceeded(f"{path} is larger than {limit} bytes")
        return data

    def fetch(self, blob: Descriptor, layer: DiffID, teller: Teller) -> LayerID:
        """Bring one layer into the store."""
        content, short = self._store.content, digests.short(blob.digest)
        if not content.use(blob.digest):
            with content.partial(blob.digest) as partial:
                # Another process may have brought it while we waited for it.
                if not content.use(blob.digest):
                    self._fill(partial, blob, teller.bar("Downloading", short, blob.size, partial.size))
        with ExitStack() as undo:
            watch = teller.bar("Extracting", short, blob.size)
            found = layers.read_in(
                self._store, lambda: Watched(undo.enter_context(content.open(blob.digest)), watch), expected=layer
            ).id
        packed.note(self._store, blob, layer)
        return found

    def _fill(self, partial: PartialBlob, blob: Descriptor, watch: Watch) -> None:
        if partial.size > blob.size:
            partial.restart()
        path = self._blob(blob.digest)
        while partial.size < blob.size:
            end = min(partial.size + BLOCK, blob.size)
            with self._spoken():
                data = self._files.cat_file(path, start=partial.size, end=end, timeout=_BLOCK_TIME)
            if len(data) != end - partial.size:
                raise BucketFailed(f"{path} has not the {blob.size} bytes that it should have")
            partial.write(data)
            watch(len(data))
        partial.commit()

    def send_layers(self, layers: Sequence[LayerID], teller: Teller) -> tuple[Descriptor, ...]:
        """The blobs of layers, but for those that are there."""
        jobs, stop = self._place.jobs, self._stop
        return packed.send_all(self._store, layers, self._has, self._send, teller, jobs=jobs, stop=stop)

    def _has(self, form: PackedLayer) -> bool:
        path = self._blob(form.digest)
        with self._spoken():
            try:
                found = self._files.info(path)
            except FileNotFoundError:
                return False
            if found["size"] != form.size:
                return False
            if self._now - found["LastModified"].timestamp() > self._place.touch_refresh:
                self._files.cp_file(path, path, MetadataDirective="REPLACE")
        return True

    def _send(self, form: PackedLayer, path: Path, watch: Watch) -> None:
        target = self._blob(form.digest)
        with open(path, "rb", buffering=0) as file, self._spoken():
            if form.size <= BLOCK:
                self._files.pipe_file(target, file.read(BLOCK), timeout=_BLOCK_TIME)
                watch(form.size)
                return
            bucket, _, key = target.partition("/")
            place = {"Bucket": bucket, "Key": key}
            begun = self._files.call_s3("create_multipart_upload", **place, timeout=_BLOCK_TIME)
            place["UploadId"] = begun["UploadId"]
            try:
                parts: list[dict[str, object]] = []
                while block := file.read(BLOCK):
                    if self._stop.is_set():
                        raise workers.Stopped
                    number = len(parts) + 1
                    answer = self._files.call_s3(
                        "upload_part", **place, PartNumber=number, Body=block, timeout=_BLOCK_TIME
                    )
                    parts.append({"PartNumber": number, "ETag": answer["ETag"]})
                    watch(len(block))
                whole = {"Parts": parts}
                self._files.call_s3("complete_multipart_upload", **place, MultipartUpload=whole, timeout=_BLOCK_TIME)
            except BaseException:
                # An upload that was begun costs its owner money until it is ended.
                with suppress(*_errors()):
                    self._files.call_s3("abort_multipart_upload", **place, timeout=_SHORT)
                raise

    def send(self, data: bytes) -> Digest:
        """A small blob."""
        digest = digests.of(data)
        with self._spoken():
            self._files.pipe_file(self._blob(digest), data, timeout=_BLOCK_TIME)
        return digest

    def finish(self, manifest: Manifest) -> None:
        """The manifest under all names."""
        for name in self._place.names:
            with self._spoken():
                self._files.pipe_file(self._path(self._place.manifests + name), manifest.to_json(), timeout=_BLOCK_TIME)

    def _blob(self, digest: str) -> str:
        return self._path(self._place.blobs + digest)

    def _path(self, name: str) -> str:
        return f"{self._place.bucket}/{self._place.prefix}{name}"

    @contextmanager
    def _spoken(self) -> Iterator[None]:
        """Turn what the library raises into our errors, without the account's keys."""
        try:
            yield
        except _errors() as err:
            text = hidden(str(err)) or "no answer in time"
            for secret in self._secrets:
                text = text.replace(secret, "xxxxx")
            raise BucketFailed(f"{self._place.bucket}: {text}") from None


def _errors() -> tuple[type[Exception], ...]:
    from botocore.exceptions import BotoCoreError, ClientError
    from fsspec.exceptions import FSTimeoutError

    return BotoCoreError, ClientError, FSTimeoutError, OSError, ValueError


def _connect(place: Place, account: Account) -> Any:
    try:
        import s3fs
    except ImportError as err:
        raise Unsupported("a cache of type=s3 needs the package s3fs", hint="pip install 'lamina[s3]'") from err
    style = {None: "auto", True: "path", False: "virtual"}[place.path_style]
    files = s3fs.S3FileSystem(
        key=account.key or None,
        secret=account.secret or None,
        token=account.token or None,
        endpoint_url=place.endpoint or None,
        client_kwargs={"region_name": place.region},
        config_kwargs={
            "s3": {"addressing_style": style},
            "connect_timeout": _CONNECT,
            "read_timeout": _READ,
            # All attempts are botocore's; s3fs would repeat each of its rounds.
            "retries": {"total_max_attempts": 3, "mode": "standard"},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    files.retries = 1
    return files

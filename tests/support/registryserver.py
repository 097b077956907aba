"""A small registry on loopback, as the other side of the protocol: well-behaved unless a test tells it otherwise.

    with RegistryServer() as registry:
        registry.put_image("app", "1", [layer_tar])
        registry.intercept = lambda request: …     # True: it has answered this request itself

`requests` has (method, path, headers) of everything that arrived, `sent` the bytes of blobs that went out, by digest.
"""

import base64
import gzip
import hashlib
import json
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

OCI = "application/vnd.oci.image."
MANIFEST, INDEX, CONFIG = f"{OCI}manifest.v1+json", f"{OCI}index.v1+json", f"{OCI}config.v1+json"
LAYER = f"{OCI}layer.v1.tar+gzip"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Request(BaseHTTPRequestHandler):
    """One request; `path` with its query."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms between its head and its body
    server: "RegistryServer"

    def handle_any(self) -> None:
        registry = self.server
        with registry.guard:
            registry.requests.append((self.command, self.path, self.headers))
        self.close_connection = False
        if registry.intercept is None or not registry.intercept(self):
            registry.answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any

    def read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Answer; underscores in the names of headers stand for hyphens."""
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(body))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def error(self, status: int, code: str, message: str = "", **headers: str) -> None:
        self.reply(status, json.dumps({"errors": [{"code": code, "message": message}]}).encode(), **headers)

    def cut(self) -> None:
        """End the connection here."""
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        pass


class RegistryServer(ThreadingHTTPServer):
    """Repositories in memory. A context manager."""

    daemon_threads = True

    def __init__(
        self, *, tls: ssl.SSLContext | None = None, user: tuple[str, str] | None = None, referrers: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.scheme = "https" if tls else "http"
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.user = user
        self.lists_referrers = referrers
        """Whether it has the referrers API of the distribution specification 1.1."""
        self.realm = ""
        """Of a token service; "" for basic authentication."""
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.repositories: dict[str, set[str]] = {}
        self.uploads: dict[str, bytearray] = {}
        self.requests: list[tuple[str, str, Message]] = []
        self.sent: Counter[str] = Counter()
        self.received = 0
        """Bytes of blobs that arrived."""
        self.intercept: Callable[[Request], bool] | None = None
        self.guard = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that go away in the middle are what the tests are about

    def seen(self, pattern: str) -> list[tuple[str, str, Message]]:
        """The requests whose "METHOD path" fits."""
        return [each for each in self.requests if re.search(pattern, f"{each[0]} {each[1]}")]

    # --- content ---

    def put_blob(self, repository: str, data: bytes) -> dict[str, Any]:
        self.blobs[digest(data)] = data
        self.repositories.setdefault(repository, set()).add(digest(data))
        return {"digest": digest(data), "size": len(data)}

    def put_manifest(self, repository: str, tag: str, document: Mapping[str, Any] | bytes, kind: str = MANIFEST) -> str:
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.repositories.setdefault(repository, set())
        for name in (tag, digest(data)):
            self.manifests[repository, name] = (kind, data)
        return digest(data)

    def put_image(
        self, repository: str, tag: str, layers: Sequence[bytes], *, architecture: str = "amd64", **config: Any
    ) -> dict[str, Any]:
        """An image of gzipped layers; returns its manifest as a document that a test may change and put again."""
        document = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
            "history": [{"created_by": f"layer {at}"} for at, _ in enumerate(layers)],
        }
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, **self.put_blob(repository, json.dumps(document).encode())},
            "layers": [
                {"mediaType": LAYER, **self.put_blob(repository, gzip.compress(each, 6, mtime=0))} for each in layers
            ],
        }
        self.put_manifest(repository, tag, manifest)
        return manifest

    def put_index(
        self, repository: str, tag: str, images: Mapping[str, Sequence[bytes]], *, attested: bool = False
    ) -> bytes:
        """An index of images, by platform; `attested`: each with an attestation as BuildKit adds it. Its bytes."""
        entries = []
        for platform, layers in images.items():
            system, architecture, *variant = platform.split("/")
            data = json.dumps(self.put_image(repository, "none", layers, architecture=architecture)).encode()
            described = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
            entries.append({"mediaType": MANIFEST, "digest": digest(data), "size": len(data), "platform": described})
        for of in [each["digest"] for each in entries] if attested else ():
            statement = self.put_blob(repository, json.dumps({"subject": of}).encode())
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": {"mediaType": CONFIG, **self.put_blob(repository, json.dumps({"for": of}).encode())},
                "layers": [{"mediaType": "application/vnd.in-toto+json", **statement}],
            }
            data = json.dumps(document).encode()
            self.put_manifest(repository, "none", data)
            entries.append(
                {
                    "mediaType": MANIFEST,
                    "digest": digest(data),
                    "size": len(data),
                    "annotations": {
                        "vnd.docker.reference.type": "attestation-manifest",
                        "vnd.docker.reference.digest": of,
                    },
                    "platform": {"os": "unknown", "architecture": "unknown"},
                }
            )
        self.manifests.pop((repository, "none"), None)
        document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}, indent=2).encode()
        self.put_manifest(repository, tag, document, INDEX)
        return document

    # --- the protocol ---

    def answer(self, request: Request) -> None:
        parts = urlsplit(request.path)
        if not self.allowed(request):
            return
        if parts.path == "/v2/":
            request.reply(200, b"{}")
            return
        for pattern, act in (
            (r"/v2/(.+)/manifests/([^/]+)", self.manifest),
            (r"/v2/(.+)/blobs/uploads/([^/]*)", self.upload),
            (r"/v2/(.+)/blobs/([^/]+)", self.blob),
            (r"/v2/(.+)/tags/list()", self.tags),
            (r"/v2/(.+)/referrers/([^/]+)", self.referrers),
        ):
            match = re.fullmatch(pattern, parts.path)
            if match:
                act(request, *match.groups(), parse_qs(parts.query))
                return
        request.error(404, "UNSUPPORTED")

    def allowed(self, request: Request) -> bool:
        given = request.headers.get("Authorization", "")
        if self.user is None:
            return True
        basic = "Basic " + base64.b64encode(":".join(self.user).encode()).decode()
        if given == ("Bearer good" if self.realm else basic):
            return True
        challenge = 'Basic realm="test"'
        if self.realm:
            challenge = f'Bearer realm="{self.realm}",service="test"'
        request.read_body()
        request.error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=challenge)
        return False

    def manifest(self, request: Request, repository: str, name: str, query: object) -> None:
        if request.command == "PUT":
            data = request.read_body()
            self.put_manifest(repository, name, data, request.headers["Content-Type"])
            subject = json.loads(data).get("subject") if self.lists_referrers else None
            headers = {"OCI_Subject": subject["digest"]} if subject else {}
            request.reply(201, Docker_Content_Digest=digest(data), **headers)
            return
        if repository not in self.repositories:
            request.error(404, "NAME_UNKNOWN", "repository name not known to registry")
        elif (repository, name) not in self.manifests:
            request.error(404, "MANIFEST_UNKNOWN", "manifest unknown")
        else:
            kind, data = self.manifests[repository, name]
            request.reply(200, data, Content_Type=kind, Docker_Content_Digest=digest(data))

    def blob(self, request: Request, repository: str, name: str, query: object) -> None:
        data = self.blobs.get(name)
        if data is None or name not in self.repositories.get(repository, ()):
            request.error(404, "BLOB_UNKNOWN", "blob unknown to registry")
            return
        start = int(request.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        if start >= len(data) and start:
            request.error(416, "RANGE_INVALID")
            return
        if request.command == "GET":
            with self.guard:
                self.sent[name] += len(data) - start
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        request.reply(206 if start else 200, data[start:], Docker_Content_Digest=name, **headers)

    def tags(self, request: Request, repository: str, empty: str, query: dict[str, list[str]]) -> None:
        tags = sorted(tag for name, tag in self.manifests if name == repository and ":" not in tag)
        after = query.get("last", [""])[0]
        page = [tag for tag in tags if tag > after][:2]
        headers = {}
        if page and page[-1] != tags[-1]:
            headers["Link"] = f'</v2/{repository}/tags/list?n=2&last={page[-1]}>; rel="next"'
        request.reply(200, json.dumps({"name": repository, "tags": page}).encode(), **headers)

    def referrers(self, request: Request, repository: str, subject: str, query: dict[str, list[str]]) -> None:
        """One on each page."""
        found = []
        for (name, reference), (kind, data) in sorted(self.manifests.items()):
            document = json.loads(data)
            if (
                name == repository
                and reference == digest(data)
                and document.get("subject", {}).get("digest") == subject
            ):
                described = {"mediaType": kind, "digest": reference, "size": len(data)}
                described |= {key: document[key] for key in ("artifactType", "annotations") if key in document}
                found.append(described)
        if not self.lists_referrers:
            request.error(404, "NOT_FOUND")
            return
        at = int(query.get("at", ["0"])[0])
        headers = {}
        if at + 1 < len(found):
            headers["Link"] = f'</v2/{repository}/referrers/{subject}?at={at + 1}>; rel="next"'
        document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": found[at : at + 1]}
        request.reply(200, json.dumps(document).encode(), Content_Type=INDEX, **headers)

    def upload(self, request: Request, repository: str, name: str, query: dict[str, list[str]]) -> None:
        if request.command == "POST":
            mounted = query.get("mount", [""])[0]
            if mounted and mounted in self.repositories.get(query["from"][0], ()):
                self.repositories.setdefault(repository, set()).add(mounted)
                request.reply(201, Location=f"/v2/{repository}/blobs/{mounted}")
                return
            name = f"{len(self.requests)}"
            self.uploads[name] = bytearray()
            request.reply(202, Location=f"/v2/{repository}/blobs/uploads/{name}?state=x", Range="0-0")
            return
        data = self.uploads.get(name)
        if data is None:
            request.read_body()
            request.error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        where = {"Location": f"/v2/{repository}/blobs/uploads/{name}?state=x"}
        if request.command == "GET":
            request.reply(204, Range=f"0-{max(len(data) - 1, 0)}", **where)
        elif request.command == "DELETE":
            del self.uploads[name]
            request.reply(204)
        else:
            stated = request.headers.get("Content-Range", "")
            if stated and int(stated.partition("-")[0]) != len(data):
                request.read_body()
                request.reply(416, Range=f"0-{max(len(data) - 1, 0)}", **where)
                return
            self.take(request, data)
            if request.command == "PATCH":
                request.reply(202, Range=f"0-{len(data) - 1}", **where)
            elif digest(bytes(data)) != query["digest"][0]:
                request.error(400, "DIGEST_INVALID")
            else:
                self.put_blob(repository, bytes(data))
                del self.uploads[name]
                request.reply(201, Location=f"/v2/{repository}/blobs/{query['digest'][0]}")

    def take(self, request: Request, data: bytearray, limit: int | None = None) -> None:
        """Read a body onto `data`, at most `limit` bytes of it."""
        left = int(request.headers.get("Content-Length", "0"))
        left = left if limit is None else min(left, limit)
        while left:
            piece = request.rfile.read(min(left, 1 << 16))
            if not piece:
                return
            data += piece
            left -= len(piece)
            with self.guard:
                self.received += len(piece)

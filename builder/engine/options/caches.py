"""The notation of `--cache-from` and `--cache-to`, in buildx's words: CSV of `key=value`, or a bare reference."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping

from builder.engine.options.outputs import packing
from builder.errors import InvalidInput
from builder.transfer.compression import Packing
from runtime.values import dataclass, field

_BUCKET = {
    "bucket",
    "region",
    "name",
    "prefix",
    "blobs_prefix",
    "manifests_prefix",
    "endpoint_url",
    "use_path_style",
    "access_key_id",
    "secret_access_key",
    "session_token",
    "touch_refresh",
    "upload_parallelism",
}
_FROM = {"registry": {"ref", "registry.insecure"}, "local": {"src", "tag", "digest"}, "s3": _BUCKET}
_EXPORT = {"mode", "ignore-error"}
_MANIFEST = _EXPORT | {"image-manifest", "oci-mediatypes", "compression", "compression-level", "force-compression"}
_TO = {
    "registry": {"ref", "registry.insecure", *_MANIFEST},
    "local": {"dest", "tag", "reset", *_MANIFEST},
    "s3": {*_BUCKET, *_EXPORT},
    "inline": _EXPORT,
}
_ELSEWHERE = {
    "gha": "it is a service that only jobs of GitHub Actions can reach",
    "azblob": "there is no client for that store",
}
"""Types of BuildKit's that are not here, and why."""
_SECRETS = re.compile(r'((?:access_key_id|secret_access_key|session_token)\s*=)[^,"]*', re.IGNORECASE)
_TRUTHS = {**dict.fromkeys(("1", "t", "true"), True), **dict.fromkeys(("0", "f", "false"), False)}


@dataclass(frozen=True, slots=True)
class CacheSpec:
    """One --cache-from or --cache-to as it was read. Its options may be secrets."""

    kind: str
    options: Mapping[str, str] = field(repr=False)

    @property
    def everything(self) -> bool:
        """mode=max: all steps, not only those of the image."""
        return self.options.get("mode", "min") == "max"

    @property
    def required(self) -> bool:
        """ignore-error=false: a build whose cache cannot be exported has failed."""
        return self.truth("ignore-error") is False

    def truth(self, key: str) -> bool | None:
        """A yes or no; None when it was not said."""
        return _TRUTHS[self.options[key].lower()] if key in self.options else None

    @property
    def packing(self) -> Packing:
        """How layers are packed for it; manifests of caches are OCI's. Raises InvalidInput."""
        said = {key: value for key, value in self.options.items() if "compression" in key}
        return packing(said)

    @property
    def place(self) -> str:
        """Where it is, for people."""
        options = self.options
        return next((options[key] for key in ("ref", "src", "dest", "bucket") if options.get(key)), self.kind)


def parse_from(text: str) -> CacheSpec:
    """Read `type=registry,ref=…`, `type=local,src=…`, `type=s3,…`, or a bare reference. Raises InvalidInput."""
    return _parse(text, _FROM, {"registry": "ref", "local": "src"}, "--cache-from")


def parse_to(text: str) -> CacheSpec:
    """Read `type=registry,ref=…`, `type=local,dest=…`, `type=s3,…`, `type=inline`, or a bare reference.

    Raises InvalidInput.
    """
    spec = _parse(text, _TO, {"registry": "ref", "local": "dest"}, "--cache-to")
    if spec.options.get("mode", "min") not in ("min", "max"):
        raise InvalidInput(f"--cache-to: invalid mode {spec.options['mode']!r}", hint="min or max")
    try:
        _ = spec.packing
    except InvalidInput as err:
        err.message = f"--cache-to: {err.message}"
        raise
    return spec


def _parse(text: str, known: Mapping[str, set[str]], needed: Mapping[str, str], flag: str) -> CacheSpec:
    (fields,) = list(csv.reader([text])) or [[]]
    if fields and all("=" not in field for field in fields):
        return CacheSpec("registry", {"ref": text})
    options: dict[str, str] = {}
    for each in fields:
        key, equals, value = each.partition("=")
        if not equals:
            raise InvalidInput(f"{flag}: invalid value {each}", hint="expected key=value, separated by commas")
        options[key.strip().lower()] = value
    kind = options.pop("type", "")
    there = ", ".join(known)
    if not kind:
        told = _SECRETS.sub(r"\1xxxxx", text)
        raise InvalidInput(f"{flag}: type required form> {told!r}", hint=f"one of {there}")
    if kind in _ELSEWHERE:
        raise InvalidInput(f"{flag}: type={kind} is not supported: {_ELSEWHERE[kind]}", hint=f"there are {there}")
    if kind not in known:
        raise InvalidInput(f"{flag}: unknown cache type {kind!r}", hint=f"there are {there}")
    unknown = sorted(set(options) - known[kind])
    if unknown:
        raise InvalidInput(
            f"{flag}: type={kind} has no option {unknown[0]!r}",
            hint=f"it has {', '.join(sorted(known[kind])) or 'none'}",
        )
    for key in ("ignore-error", "use_path_style", "registry.insecure"):
        if options.get(key, "true").lower() not in _TRUTHS:
            raise InvalidInput(f"{flag}: invalid {key} {options[key]!r}", hint="true or false")
    if kind in needed and not options.get(needed[kind]):
        raise InvalidInput(f"{flag}: type={kind} needs {needed[kind]}=")
    return CacheSpec(kind, options)

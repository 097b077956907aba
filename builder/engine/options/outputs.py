"""The notation of `-o`: where the result of a build goes, in buildx's words and with its errors.

`-o DIR` is `type=local,dest=DIR`, `-o -` is `type=tar,dest=-`; all else is CSV of `key=value`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from builder.engine.options.units import BOOLEANS
from builder.errors import InvalidInput
from builder.oci import platforms
from builder.transfer.compression import LEVELS, Compression, Packing
from runtime.values import dataclass

GZIP = Packing(Compression.GZIP)


class OutputType(StrEnum):
    """What is made of the result. IMAGE, and DOCKER without a destination, is our store; REGISTRY is IMAGE pushed."""

    LOCAL = "local"
    TAR = "tar"
    OCI = "oci"
    DOCKER = "docker"
    IMAGE = "image"
    REGISTRY = "registry"
    CACHE_ONLY = "cacheonly"


class Place(StrEnum):
    """Where an annotation goes: into a document, or beside what points at it."""

    MANIFEST = "manifest"
    MANIFEST_DESCRIPTOR = "manifest-descriptor"
    INDEX = "index"
    INDEX_DESCRIPTOR = "index-descriptor"


@dataclass(frozen=True, slots=True)
class Annotation:
    """One annotation; `platform` is that of the only manifest which gets it, "" for all."""

    place: Place
    key: str
    value: str
    platform: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """One output.

    dest         a path (not yet taken from the working directory), "-" for stdout, "" for the store
    names        of the image; () leaves them to `-t`
    tar          an OCI layout is one tar, not a directory
    split        files of several platforms go into a directory for each; None: where there are several
    prefix       attestation-prefix: stands before the names of the files of attestations
    rewrite      rewrite-timestamp; None when it was not said
    epoch        source-date-epoch, or None
    most         max-layers: None is what the receiver takes, 0 any number
    artifact     oci-artifact: attestations go out as artifacts whose subject is the image
    by_digest    push-by-digest: no tag is pushed
    insecure     registry.insecure: the registry may be asked without TLS that can be trusted
    """

    type: OutputType
    dest: str = ""
    names: tuple[str, ...] = ()
    tar: bool = True
    packing: Packing = GZIP
    annotations: tuple[Annotation, ...] = ()
    split: bool | None = None
    prefix: str = ""
    rewrite: bool | None = None
    epoch: str | None = None
    most: int | None = None
    artifact: bool = False
    by_digest: bool = False
    insecure: bool = False

    @property
    def stored(self) -> bool:
        """Whether the image goes into the store."""
        return self.type in (OutputType.IMAGE, OutputType.REGISTRY) or (
            self.type is OutputType.DOCKER and not self.dest
        )

    def noted(self, place: Place, platform: str = "") -> dict[str, str]:
        """The annotations of a place; those for a `platform` win over those for all."""
        here = [one for one in self.annotations if one.place is place and one.platform in ("", platform)]
        return {one.key: one.value for one in sorted(here, key=lambda one: bool(one.platform))}


STORE = Output(OutputType.DOCKER)
"""What a build does when nothing is asked for."""

_ANY = frozenset({"type", "dest", "source-date-epoch", "rewrite-timestamp"})
_IMAGES = frozenset(
    {
        "name",
        "compression",
        "compression-level",
        "force-compression",
        "oci-mediatypes",
        "max-layers",
        "tar",
        "context",
        "unpack",
        "store",
        "push",
        "push-by-digest",
        "name-canonical",
        "dangling-name-prefix",
        "registry.insecure",
        "attestation-inline",
        "prefer-nondist-layers",
        "buildinfo",
        "buildinfo-attrs",
        "oci-artifact",
    }
)
_FILES = frozenset({"platform-split", "attestation-prefix", "mode"})
_ANNOTATION = re.compile(r"annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)")
_FLAG_ANNOTATION = re.compile(r"([a-z-]+)(?:\[([A-Za-z0-9_/-]+)\])?")


def parse_output(text: str) -> Output:
    """One `-o`. Raises InvalidInput."""
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as err:
        raise InvalidInput(f"invalid output {text}: {err}") from err
    if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
        return _checked({"type": "tar" if text == "-" else "local", "dest": text})
    values: dict[str, str] = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidInput(f"invalid value {field}", hint="write it as type=TYPE[,KEY=VALUE]")
        values[key.strip().lower()] = value
    return _checked(values)


def parse_annotations(texts: Sequence[str]) -> tuple[Annotation, ...]:
    """`--annotation [PLACE[[PLATFORM]][,…]:]KEY=VALUE`; a place is one of `Place`. Raises InvalidInput."""
    found: list[Annotation] = []
    for text in texts:
        names, equals, value = text.partition("=")
        if not equals:
            raise InvalidInput(f'invalid annotation "{text}", expected key=value')
        kinds, colon, key = names.partition(":")
        if not colon:
            found.append(Annotation(Place.MANIFEST, names, value))
            continue
        for kind in kinds.split(","):
            match = _FLAG_ANNOTATION.fullmatch(kind)
            if match is None:
                raise InvalidInput(
                    f'invalid annotation type "{kind}", expected type and optional platform in square brackets'
                )
            found.append(_placed(match[1], match[2], key, value))
    return tuple(found)


def check_indexed(outputs: Sequence[Output], *, indexed: bool, attested: bool = False) -> None:
    """Refuse what only an index, or only a single image, can be or have, in BuildKit's words; what is `attested` stands
    beside an image in an index.

    Raises InvalidInput."""
    for output in outputs:
        if indexed and output.type is OutputType.DOCKER and output.dest:
            raise InvalidInput(
                "docker exporter does not currently support exporting manifest lists",
                hint="type=oci writes an index; without dest= it goes into the store",
            )
        for one in output.annotations:
            if not (indexed or attested) and one.place in (Place.INDEX, Place.INDEX_DESCRIPTOR):
                what = "index" if one.place is Place.INDEX else "index descriptor"
                raise InvalidInput(
                    f"{what} annotations not supported for single platform export",
                    hint=f"use manifest:{one.key}={one.value}",
                )


def _checked(values: Mapping[str, str]) -> Output:
    name = values.get("type", "")
    if not name:
        raise InvalidInput("type is required for output")
    try:
        kind = OutputType(name)
    except ValueError:
        known = ", ".join(OutputType)
        raise InvalidInput(f'exporter "{name}" could not be found', hint=f"there are {known}") from None
    if kind is OutputType.IMAGE and _boolean(values, "push"):
        kind = OutputType.REGISTRY
    annotations, rest = _annotations(values)
    files = kind in (OutputType.LOCAL, OutputType.TAR)
    known_keys = _ANY | (_FILES if files else _IMAGES)
    for key in rest:
        if key not in known_keys:
            raise InvalidInput(f'unknown attribute "{key}" of output {name}', hint=f"known: {_listed(known_keys)}")
    if files and values.get("mode", "copy") != "copy":
        raise InvalidInput(
            f'mode "{values["mode"]}" of output {name} is not supported', hint="empty the directory first"
        )
    if files and annotations:
        raise InvalidInput(f"annotations belong to images, and output {name} writes none")
    return Output(
        type=kind,
        dest=_destination(kind, values),
        names=tuple(filter(None, (part.strip() for part in values.get("name", "").split(",")))),
        tar=_boolean(values, "tar") is not False,
        packing=packing(values, docker=kind is OutputType.DOCKER, annotated=bool(annotations)),
        annotations=tuple(annotations),
        split=_boolean(values, "platform-split"),
        prefix=_prefix(values.get("attestation-prefix", "")),
        rewrite=_boolean(values, "rewrite-timestamp"),
        epoch=values.get("source-date-epoch"),
        most=_number(values, "max-layers", 0, 10_000),
        artifact=_boolean(values, "oci-artifact") is True,
        by_digest=_boolean(values, "push-by-digest") is True,
        insecure=_boolean(values, "registry.insecure") is True,
    )


def _prefix(text: str) -> str:
    if "/" in text:
        raise InvalidInput(f"invalid attestation-prefix {text}: it must not name a directory")
    return text


def _destination(kind: OutputType, values: Mapping[str, str]) -> str:
    dest = values.get("dest", "")
    if kind is OutputType.LOCAL or (kind is OutputType.OCI and _boolean(values, "tar") is False):
        if not dest:
            raise InvalidInput(f"dest is required for {kind} exporter")
        if dest == "-":
            raise InvalidInput(f"dest cannot be stdout for {kind} exporter")
        return dest
    if kind in (OutputType.TAR, OutputType.OCI):
        return dest or "-"
    if kind is OutputType.DOCKER:
        if _boolean(values, "tar") is False:
            raise InvalidInput("docker exporter writes one tar only", hint="use type=oci,tar=false")
        return dest
    if dest:
        raise InvalidInput(f"output {dest} is not supported by {kind} exporter")
    return ""


def check_destinations(outputs: Sequence[Output], cwd: Path, *, terminal: bool) -> None:
    """What can be said of the destinations before the build: better now than after an hour. Raises InvalidInput."""
    stdout = 0
    for output in outputs:
        path = cwd / output.dest
        if output.type is OutputType.LOCAL or not output.tar:
            if path.exists() and not path.is_dir():
                raise InvalidInput(f"destination directory {output.dest} is a file")
        elif output.dest == "-":
            stdout += 1
            if terminal:
                raise InvalidInput(
                    f"dest file is required for {output.type} exporter. refusing to write to console",
                    hint=f"use type={output.type},dest=FILE, or redirect stdout",
                )
        elif output.dest and path.is_dir():
            raise InvalidInput(f"destination file {output.dest} is a directory")
        elif output.dest and not path.parent.is_dir():
            raise InvalidInput(f"invalid destination file: {output.dest}: no such directory {path.parent}")
    if stdout > 1:
        raise InvalidInput("multiple outputs configured to write to stdout")


def packing(values: Mapping[str, str], *, docker: bool = False, annotated: bool = False) -> Packing:
    """How layers are packed: compression, compression-level, force-compression and oci-mediatypes. Raises InvalidInput.

    `docker`: with docker's media types, if they are not asked for; what is `annotated` needs OCI's.
    """
    text = values.get("compression", "") or "gzip"
    if text == "estargz":
        raise InvalidInput("compression estargz is not supported", hint=f"use {_listed(Compression)}")
    try:
        compression = Compression(text)
    except ValueError:
        raise InvalidInput(f"unsupported compression type {text}", hint=f"use {_listed(Compression)}") from None
    level = _number(values, "compression-level", *LEVELS[compression])
    _boolean(values, "force-compression")  # what is in the store is unpacked: every layer is packed as asked
    oci = _boolean(values, "oci-mediatypes")
    # Docker's media types know neither zstd nor annotations; BuildKit turns OCI's on as well.
    docker = (docker if oci is None else not oci) and not annotated
    return Packing(compression, level, docker=docker and compression is not Compression.ZSTD)


def _annotations(values: Mapping[str, str]) -> tuple[list[Annotation], dict[str, str]]:
    """What is an annotation, and the other attributes."""
    found, rest = [], {}
    for key, value in values.items():
        match = _ANNOTATION.fullmatch(key)
        if match is None:
            rest[key] = value
        else:
            found.append(_placed(match[1], match[2], match[3], value))
    return found, rest


def _placed(place: str | None, platform: str | None, key: str, value: str) -> Annotation:
    try:
        where = Place(place or Place.MANIFEST)
    except ValueError:
        raise InvalidInput(f'unknown annotation type "{place}"', hint=f"known: {_listed(Place)}") from None
    return Annotation(where, key, value, str(platforms.parse(platform)) if platform else "")


def _boolean(values: Mapping[str, str], key: str) -> bool | None:
    text = values.get(key)
    if text is None:
        return None
    if text == "":
        return True
    if text not in BOOLEANS:
        raise InvalidInput(f"non-bool value specified for {key}: {text}")
    return BOOLEANS[text]


def _number(values: Mapping[str, str], key: str, low: int, high: int) -> int | None:
    text = values.get(key, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
        raise InvalidInput(f"invalid {key} {text}: it must be a number from {low} to {high}")
    return int(text)


def _listed(words: Sequence[str] | frozenset[str] | type[Compression | Place]) -> str:
    return ", ".join(sorted(words))

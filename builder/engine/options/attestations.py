"""The notation of --attest, --sbom and --provenance: what a build attests of its image, in buildx's words."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from enum import StrEnum

from builder.engine.options.units import BOOLEANS
from builder.errors import InvalidInput
from runtime.values import dataclass


class Kind(StrEnum):
    """What can be attested; the values are buildx's types."""

    SBOM = "sbom"
    PROVENANCE = "provenance"


@dataclass(frozen=True, slots=True)
class SbomWish:
    """Bills of materials: `formats` are words of `insight.sbom.FORMATS`."""

    formats: tuple[str, ...] = ("spdx",)


@dataclass(frozen=True, slots=True)
class ProvenanceWish:
    """Provenance. `most` is mode=max; `builder` the URI that the builder is known under, "" for ours; `inline` leaves
    it out where files are written and no image, and else `filename` is what it is called there.
    """

    most: bool = True
    builder: str = ""
    reproducible: bool = False
    inline: bool = False
    filename: str = "provenance.json"


@dataclass(frozen=True, slots=True)
class AttestationWish:
    """What to attest. `dropped` are kinds that the image must not have, also from an earlier build."""

    sbom: SbomWish | None = None
    provenance: ProvenanceWish | None = None
    dropped: frozenset[Kind] = frozenset()

    def __bool__(self) -> bool:
        return self.sbom is not None or self.provenance is not None


def canonical(kind: Kind, text: str) -> str:
    """--sbom=TEXT or --provenance=TEXT as an --attest."""
    if text not in BOOLEANS:
        return f"type={kind},{text}"
    return f"type={kind}" if BOOLEANS[text] else f"type={kind},disabled=true"


def parse(texts: Sequence[str]) -> AttestationWish:
    """All --attest of a build. Raises InvalidInput."""
    found: dict[Kind, Mapping[str, str] | None] = {}
    for text in texts:
        values = _fields(text)
        name = values.pop("type", "")
        if not name:
            raise InvalidInput("attestation type not specified", hint="write it as type=sbom or type=provenance")
        if name not in list(Kind):
            raise InvalidInput(f'unknown attestation type "{name}"', hint=f"there are {', '.join(Kind)}")
        disabled = _boolean(values.pop("disabled", "false"), f"disabled of attestation {name}")
        asked = None if disabled else values
        if found.setdefault(Kind(name), asked) != asked:
            raise InvalidInput(f"duplicate attestation field {name}")
    sbom, provenance = found.get(Kind.SBOM), found.get(Kind.PROVENANCE)
    return AttestationWish(
        None if sbom is None else _sbom(sbom),
        None if provenance is None else _provenance(provenance),
        frozenset(kind for kind, values in found.items() if values is None),
    )


def _fields(text: str) -> dict[str, str]:
    try:
        fields = next(csv.reader([text], strict=True), [])
    except csv.Error as err:
        raise InvalidInput(f"invalid attestation {text}: {err}") from err
    values = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise InvalidInput(f"invalid value {field}", hint="write it as type=TYPE[,KEY=VALUE]")
        values[key.strip().lower()] = value
    return values


def _sbom(values: Mapping[str, str]) -> SbomWish:
    from builder.insight.sbom import FORMATS

    _check(Kind.SBOM, values, ("generator", "format"))
    if values.get("generator", "lamina") not in ("", "lamina"):
        raise InvalidInput(
            f"generator {values['generator']} is not run: lamina reads what package managers have installed by itself",
            hint="leave generator out",
        )
    formats = tuple(dict.fromkeys(values.get("format", "spdx").split("+")))
    for one in formats:
        if one not in FORMATS:
            raise InvalidInput(f'unknown format "{one}" of attestation sbom', hint=f"there are {', '.join(FORMATS)}")
    return SbomWish(formats)


def _provenance(values: Mapping[str, str]) -> ProvenanceWish:
    _check(Kind.PROVENANCE, values, ("mode", "builder-id", "reproducible", "inline-only", "filename", "version"))
    mode = values.get("mode", "max")
    if mode not in ("min", "max"):
        raise InvalidInput(f'invalid mode "{mode}" of attestation provenance', hint="use min or max")
    if values.get("version", "v1") != "v1":
        raise InvalidInput(f"provenance version {values['version']} is not made", hint="use version=v1")
    filename = values.get("filename", "provenance.json")
    if not filename or "/" in filename or filename in (".", ".."):
        raise InvalidInput(f'invalid filename "{filename}" of attestation provenance', hint="give a name, not a path")
    return ProvenanceWish(
        most=mode == "max",
        builder=values.get("builder-id", ""),
        reproducible=_boolean(values.get("reproducible", "false"), "reproducible of attestation provenance"),
        inline=_boolean(values.get("inline-only", "false"), "inline-only of attestation provenance"),
        filename=filename,
    )


def _check(kind: Kind, values: Mapping[str, str], known: Sequence[str]) -> None:
    for key in values:
        if key not in known:
            raise InvalidInput(f'unknown attribute "{key}" of attestation {kind}', hint=f"known: {', '.join(known)}")


def _boolean(text: str, what: str) -> bool:
    if text not in BOOLEANS:
        raise InvalidInput(f'invalid {what}: "{text}"', hint="write true or false")
    return BOOLEANS[text]

"""What package managers have written down about a file system: dpkg, apk, rpm, Python distributions, npm packages.

Only their databases are read, nothing is run. A database that cannot be read gives no packages: what an image
contains is not trusted to be well formed. Sizes of what is read are bounded.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from enum import StrEnum
from typing import Protocol

from builder.insight import rpmdb
from runtime.values import dataclass

MAX_DATABASE = 256 << 20
MAX_METADATA = 4 << 20


class Ecosystem(StrEnum):
    """Whose package it is; the values are the types of package URLs (purl specification)."""

    DEB = "deb"
    APK = "apk"
    RPM = "rpm"
    PYPI = "pypi"
    NPM = "npm"


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One installed package. `license` as its author wrote it ("": not stated); `source` is the file that says so."""

    ecosystem: Ecosystem
    name: str
    version: str
    architecture: str = ""
    license: str = ""
    source: str = ""

    def purl(self, distribution: Distribution | None = None) -> str:
        """The package URL, e.g. ``pkg:deb/debian/curl@7.88.1-10?arch=amd64&distro=debian-12``."""
        from urllib.parse import quote

        system = self.ecosystem in (Ecosystem.DEB, Ecosystem.APK, Ecosystem.RPM)
        name = self.name
        if self.ecosystem is Ecosystem.PYPI:
            name = name.lower().replace("_", "-").replace(".", "-")
        path = "/".join(quote(part, safe="") for part in name.split("/"))
        if system and distribution is not None and distribution.id:
            path = f"{quote(distribution.id, safe='')}/{path}"
        qualifiers = []
        if self.architecture:
            qualifiers.append(f"arch={quote(self.architecture, safe='')}")
        if system and distribution is not None and distribution.id and distribution.version:
            qualifiers.append(f"distro={quote(f'{distribution.id}-{distribution.version}', safe='')}")
        version = f"@{quote(self.version, safe=':')}" if self.version else ""
        return f"pkg:{self.ecosystem}/{path}{version}" + (f"?{'&'.join(qualifiers)}" if qualifiers else "")


@dataclass(frozen=True, slots=True)
class Distribution:
    """What /etc/os-release says."""

    id: str
    version: str
    name: str


class Files(Protocol):
    """The part of a `Listing` that is needed here."""

    @property
    def entries(self) -> Mapping[str, object]: ...

    def read(self, path: str, limit: int) -> bytes | None:
        """The bytes of a file."""


def find(files: Files) -> tuple[Package, ...]:
    """All packages, sorted; the same package found twice is one."""
    found = {*_dpkg(files), *_apk(files), *_rpm(files)}
    for path in files.entries:
        found.update(_language(files, path))
    return tuple(sorted(found))


def distribution(files: Files) -> Distribution | None:
    """The distribution of a file system, None when it says nothing."""
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = _text(files, path)
        if text is not None:
            fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
            value = {key.strip(): raw.strip().strip("\"'") for key, raw in fields.items()}
            return Distribution(value.get("ID", ""), value.get("VERSION_ID", ""), value.get("PRETTY_NAME", ""))
    return None


def _text(files: Files, path: str, limit: int = MAX_METADATA) -> str | None:
    data = files.read(path, limit)
    return None if data is None else data.decode(errors="replace")


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Paragraphs of ``Key: value`` lines as dpkg and apk write them; continuation lines are left out."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            key, colon, value = line.partition(":")
            if colon:
                fields.setdefault(key, value.strip())
    if fields:
        yield fields


def _dpkg(files: Files) -> Iterator[Package]:
    # Images without dpkg keep one file for each package in status.d.
    single = [path for path in files.entries if path.startswith("/var/lib/dpkg/status.d/")]
    for path in ("/var/lib/dpkg/status", *single):
        if path.endswith(".md5sums"):
            continue
        for fields in _paragraphs(_text(files, path, MAX_DATABASE) or ""):
            installed = fields.get("Status", "install ok installed").endswith(" installed")
            if installed and fields.get("Package"):
                yield Package(
                    Ecosystem.DEB,
                    fields["Package"],
                    fields.get("Version", ""),
                    fields.get("Architecture", ""),
                    "",
                    path,
                )


def _apk(files: Files) -> Iterator[Package]:
    for path in ("/lib/apk/db/installed", "/usr/lib/apk/db/installed"):
        for fields in _paragraphs(_text(files, path, MAX_DATABASE) or ""):
            if fields.get("P"):
                yield Package(
                    Ecosystem.APK, fields["P"], fields.get("V", ""), fields.get("A", ""), fields.get("L", ""), path
                )


def _rpm(files: Files) -> Iterator[Package]:
    for path in ("/usr/lib/sysimage/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite"):
        data = files.read(path, MAX_DATABASE)
        if data is not None:
            for header in rpmdb.headers(data):
                yield Package(Ecosystem.RPM, header.name, header.version, header.architecture, header.license, path)
            return


def _language(files: Files, path: str) -> Iterable[Package]:
    if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO", ".egg-info")):
        text = _text(files, path)
        if text is not None:
            fields = HeaderParser().parsestr(text)
            if fields["Name"]:
                license_ = fields["License-Expression"] or fields["License"] or ""
                short = license_ if "\n" not in license_ and len(license_) < 100 else ""
                yield Package(Ecosystem.PYPI, fields["Name"], fields["Version"] or "", "", short, path)
    elif path.endswith("/package.json") and "/node_modules/" in path:
        below = path.rpartition("/node_modules/")[2].split("/")
        if len(below) == (3 if below[0].startswith("@") else 2):
            yield from _npm(files, path)


def _npm(files: Files, path: str) -> Iterator[Package]:
    try:
        document = json.loads(files.read(path, MAX_METADATA) or b"null")
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict) and isinstance(document.get("name"), str):
        version, license_ = document.get("version"), document.get("license")
        yield Package(
            Ecosystem.NPM,
            document["name"],
            version if isinstance(version, str) else "",
            "",
            license_ if isinstance(license_, str) else "",
            path,
        )

"""What package managers have written down about a file system: dpkg, apk, rpm, Python distributions, npm packages.

Only their databases are read, nothing is run. A database that cannot be read gives no packages: what an image
contains is not trusted to be well formed. Sizes of what is read are bounded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from email.parser import HeaderParser
from enum import StrEnum
from itertools import chain
from typing import Protocol

from builder.errors import LimitExceeded
from builder.insight import rpmdb
from runtime.values import dataclass

MAX_DATABASE = 128 << 20
MAX_METADATA = 4 << 20
MAX_LINE = 64 << 10
MAX_HEADERS = 256 << 10
"""Bytes at the top of a Python package's metadata; its description may be long, and comes after."""
MAX_PACKAGES = 50_000
"""More than any distribution has; an image with more is made to hurt."""


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
        path = "/".join(quote(part, safe="") for part in name.split("/") if part)
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
    """All packages, sorted; the same package found twice is one. Raises LimitExceeded (MAX_PACKAGES)."""
    found: set[Package] = set()
    languages = (each for path in files.entries for each in _language(files, path))
    for package in chain(_dpkg(files), _apk(files), _rpm(files), languages):
        if package.name.strip("/"):
            found.add(package)
        if len(found) > MAX_PACKAGES:
            raise LimitExceeded(f"the image says that it has more than {MAX_PACKAGES} packages")
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


def _text(files: Files, path: str) -> str | None:
    data = files.read(path, MAX_METADATA)
    return None if data is None else data.decode(errors="replace")


def _paragraphs(files: Files, path: str) -> Iterator[dict[str, str]]:
    """Paragraphs of ``Key: value`` lines as dpkg and apk write them; continuation lines are left out."""
    fields: dict[str, str] = {}
    # Line by line: a list of all of them takes many times the bytes of the file.
    for raw in io.BytesIO(files.read(path, MAX_DATABASE) or b""):
        line = raw[:MAX_LINE].decode(errors="replace")
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
        for fields in _paragraphs(files, path):
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
        for fields in _paragraphs(files, path):
            if fields.get("P"):
                yield Package(
                    Ecosystem.APK, fields["P"], fields.get("V", ""), fields.get("A", ""), fields.get("L", ""), path
                )


_RPM = ("/usr/lib/sysimage/rpm", "/var/lib/rpm")


def _rpm(files: Files) -> Iterator[Package]:
    for path in (f"{directory}/{name}" for directory in _RPM for name in ("rpmdb.sqlite", "Packages.db", "Packages")):
        data = files.read(path, MAX_DATABASE)
        if data is not None:
            for header in rpmdb.headers(data):
                yield Package(Ecosystem.RPM, header.name, header.version, header.architecture, header.license, path)
            return


def _language(files: Files, path: str) -> Iterable[Package]:
    if path.endswith((".dist-info/METADATA", ".egg-info/PKG-INFO", ".egg-info")):
        text = _text(files, path)
        if text is not None:
            fields = HeaderParser().parsestr(text[:MAX_HEADERS].partition("\n\n")[0])
            if fields["Name"]:
                license_ = fields["License-Expression"] or fields["License"] or ""
                short = license_ if "\n" not in license_ and len(license_) < 100 else ""
                yield Package(Ecosystem.PYPI, fields["Name"], fields["Version"] or "", "", short, _unicode(path))
    elif path.endswith("/package.json") and "/node_modules/" in path:
        below = path.rpartition("/node_modules/")[2].split("/")
        if len(below) == (3 if below[0].startswith("@") else 2):
            yield from _npm(files, path)


def _npm(files: Files, path: str) -> Iterator[Package]:
    try:
        document = json.loads(files.read(path, MAX_METADATA) or b"null")
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        name, version, license_ = (_unicode(document.get(each)) for each in ("name", "version", "license"))
        yield Package(Ecosystem.NPM, name, version, "", license_, _unicode(path))


def _unicode(text: object) -> str:
    """A text that can be written as UTF-8; "" for what is none. A path may have any bytes, JSON halves of letters."""
    return text.encode(errors="replace").decode() if isinstance(text, str) else ""

import json
import sqlite3
import struct
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import LimitExceeded
from builder.insight import packages, rpmdb
from builder.insight.packages import Distribution, Ecosystem, Package


class Files:
    """A file system in memory."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    @property
    def entries(self) -> Mapping[str, object]:
        return self._files

    def read(self, path: str, limit: int) -> bytes | None:
        data = self._files.get(path)
        return data if data is not None and len(data) <= limit else None


def names(files: Mapping[str, bytes]) -> list[tuple[str, str, str]]:
    return [(each.ecosystem.value, each.name, each.version) for each in packages.find(Files(files))]


def test_dpkg_counts_what_is_installed() -> None:
    status = b"""Package: curl
Status: install ok installed
Architecture: amd64
Version: 7.88.1-10
Description: tool
 with: a second line

Package: gone
Status: deinstall ok config-files
Version: 1
"""
    assert names({"/var/lib/dpkg/status": status}) == [("deb", "curl", "7.88.1-10")]


def test_dpkg_without_dpkg_has_a_file_for_each_package() -> None:
    files = {
        "/var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12\nArchitecture: amd64\n",
        "/var/lib/dpkg/status.d/base.md5sums": b"Package: no\n",
    }
    assert names(files) == [("deb", "base-files", "12")]


def test_apk() -> None:
    installed = b"C:Q1abc=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\n\nP:zlib\nV:1.3\nA:x86_64\n"
    found = packages.find(Files({"/lib/apk/db/installed": installed}))
    assert [(each.name, each.version, each.license) for each in found] == [
        ("musl", "1.2.4-r2", "MIT"),
        ("zlib", "1.3", ""),
    ]


def header(**values: str | int) -> bytes:
    """An rpm header with these tags, as rpm's database holds it."""
    tags = {"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "license": 1014, "arch": 1022}
    index, data = b"", b""
    for key, value in values.items():
        if isinstance(value, int):
            data += b"\0" * (-len(data) % 4)
            index += struct.pack(">IIII", tags[key], 4, len(data), 1)
            data += struct.pack(">I", value)
        else:
            index += struct.pack(">IIII", tags[key], 6, len(data), 1)
            data += value.encode() + b"\0"
    return struct.pack(">II", len(values), len(data)) + index + data


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_rpm(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "rpmdb.sqlite"
    with sqlite3.connect(path) as database:
        database.execute(f"PRAGMA journal_mode={mode}")
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        for blob in (
            header(name="bash", version="5.2", release="3.fc40", arch="x86_64", license="GPLv3+"),
            header(name="dbus", epoch=1, version="1.14", release="1"),
            header(name="gpg-pubkey", version="a", release="b"),
            b"\xff" * 40,
        ):
            database.execute("INSERT INTO Packages (blob) VALUES (?)", (blob,))
    database.close()
    found = packages.find(Files({"/var/lib/rpm/rpmdb.sqlite": path.read_bytes()}))
    assert [(each.name, each.version, each.architecture, each.license) for each in found] == [
        ("bash", "5.2-3.fc40", "x86_64", "GPLv3+"),
        ("dbus", "1:1.14-1", "", ""),
    ]


def ndb(*blobs: bytes) -> bytes:
    """SUSE's database: a page of slots, one of them free, then the packages, each at a block of 16 bytes."""
    slots, data = struct.pack("<4sIIII12x", b"RpmP", 0, 1, 1, 0) + struct.pack("<4sIII", b"Slot", 0, 0, 0), b""
    for number, blob in enumerate(blobs, 1):
        padded = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        padded += bytes(-len(padded) % 16)
        slots += struct.pack("<4sIII", b"Slot", number, (4096 + len(data)) // 16, len(padded) // 16)
        data += padded
    return slots.ljust(4096, b"\0") + data


def berkeley(*blobs: bytes, order: str = "<", size: int = 512) -> bytes:
    """A Berkeley DB hash database with one page of items, short values on it, and long ones in chains of pages.

    Databases that db5.3_load makes of the same values, of all sizes of pages and both byte orders, read the same.
    """

    def page(number: int, kind: int, following: int, entries: int, used: int, rest: bytes) -> bytes:
        return (struct.pack(f"{order}8xIIIHHBB", number, 0, following, entries, used, 0, kind) + rest).ljust(
            size, b"\0"
        )

    offsets, items, chains = list[int](), b"", list[bytes]()
    for number, blob in enumerate(blobs):
        item = b"\1" + blob
        if len(blob) > size // 4:
            item = struct.pack(f"{order}B3xII", 3, 2 + len(chains), len(blob))
            parts = [blob[at : at + size - 26] for at in range(0, len(blob), size - 26)]
            for at, part in enumerate(parts):
                own = 2 + len(chains)
                chains.append(page(own, 7, 0 if at == len(parts) - 1 else own + 1, 0, len(part), part))
        for each in (b"\1" + struct.pack(f"{order}I", number), item):
            items = each + items
            offsets.append(size - len(items))
    table = struct.pack(f"{order}{len(offsets)}H", *offsets)
    assert 26 + len(table) + len(items) <= size
    table = table.ljust(size - 26 - len(items), b"\0") + items
    meta = struct.pack(f"{order}8xIIIIBB", 0, 0x061561, 9, size, 0, 8).ljust(size, b"\0")
    return meta + page(1, 13, 0, len(offsets), 0, table) + b"".join(chains)


HEADERS = (
    header(name="bash", version="4.4", release="20.el8", arch="x86_64", license="GPLv3+"),
    header(name="gpg-pubkey", version="a", release="b"),
    header(name="long", version="1" * 3000),
    b"\5\0\0\0",  # rpm's count of packages, under the key 0
)


@pytest.mark.parametrize(
    ("path", "database"),
    [
        ("/usr/lib/sysimage/rpm/Packages.db", ndb(*HEADERS)),
        ("/var/lib/rpm/Packages", berkeley(*HEADERS)),
        ("/var/lib/rpm/Packages", berkeley(*HEADERS, order=">")),
    ],
    ids=["ndb", "berkeley", "berkeley of a big-endian machine"],
)
def test_older_databases_of_rpm(path: str, database: bytes) -> None:
    found = packages.find(Files({path: database}))
    assert [(each.name, each.version, each.architecture, each.source) for each in found] == [
        ("bash", "4.4-20.el8", "x86_64", path),
        ("long", "1" * 3000, "", path),
    ]


@given(st.sampled_from([ndb(*HEADERS), berkeley(*HEADERS)]), st.data())
def test_a_damaged_database_of_rpm_gives_no_more_than_it_has(whole: bytes, data: st.DataObject) -> None:
    damaged = bytearray(whole)
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=8)):
        damaged[at] = data.draw(st.integers(0, 255))
    cut = bytes(damaged[: data.draw(st.integers(0, len(whole)))])
    assert sum(len(each.version) for each in rpmdb.headers(cut)) <= len(whole)


def test_a_chain_of_pages_that_goes_round_ends() -> None:
    whole = bytearray(berkeley(header(name="x", version="1" * 3000)))
    whole[512 * 3 + 16 : 512 * 3 + 20] = struct.pack("<I", 2)  # the second page of the value leads back to the first
    assert sum(len(each.version) for each in rpmdb.headers(bytes(whole))) <= len(whole)


def rpm_database(path: Path, *statements: str) -> bytes:
    with sqlite3.connect(path) as database:
        for statement in statements:
            database.execute(statement, {"blob": header(name="x", version="1")} if ":blob" in statement else {})
    database.close()
    return path.read_bytes()


ENDLESS = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS blob FROM c"
HUGE = "zeroblob(900000000)"


@pytest.mark.parametrize(
    "statements",
    [
        (f"CREATE VIEW Packages AS {ENDLESS}",),
        (f"CREATE VIEW Packages AS SELECT {HUGE} AS blob",),
        (f"CREATE TABLE Packages (x, blob AS ({HUGE}))", "INSERT INTO Packages (x) VALUES (1)"),
        ("CREATE VIRTUAL TABLE Packages USING rtree (id, a, b, +blob)", "INSERT INTO Packages VALUES (1, 2, 3, :blob)"),
        ("CREATE TABLE Packages (blob)", "INSERT INTO Packages VALUES (CAST(x'ff00' AS TEXT))"),
        ("CREATE TABLE Another (blob)",),
    ],
    ids=["endless view", "large view", "computed", "virtual", "text", "another"],
)
def test_an_rpm_database_whose_schema_is_a_program_is_not_run(tmp_path: Path, statements: tuple[str, ...]) -> None:
    assert list(rpmdb.headers(rpm_database(tmp_path / "rpmdb.sqlite", *statements))) == []


def test_an_rpm_database_with_pages_that_are_used_twice_ends(tmp_path: Path) -> None:
    whole = rpm_database(
        tmp_path / "rpmdb.sqlite",
        "CREATE TABLE Packages (blob)",
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT 2000) INSERT INTO Packages"
        " SELECT :blob FROM c",
    )
    page = int.from_bytes(whole[16:18], "big")
    root = bytearray(whole[page : 2 * page])
    assert root[0] == 5  # an inner page: cells of a child's number and a key
    cells = [int.from_bytes(root[12 + 2 * at : 14 + 2 * at], "big") for at in range(int.from_bytes(root[3:5], "big"))]
    for cell in cells:
        root[cell : cell + 4] = (2).to_bytes(4, "big")  # each child is the page itself, 20 deep
    assert len(list(rpmdb.headers(whole[:page] + bytes(root) + whole[2 * page :]))) <= 2000


def test_an_rpm_header_that_says_the_same_many_times_is_cheap() -> None:
    index = struct.pack(">IIII", 1000, 6, 0, 1) * 4096
    found = rpmdb.parse(struct.pack(">II", 4096, 1 << 24) + index + b"a" * (1 << 24))
    assert found is not None and found.name == "a" * 4096


def test_what_is_said_to_hurt() -> None:
    modules = "/app/node_modules"
    files = {
        "/var/lib/dpkg/status": b"Package: " + b"a" * (1 << 20) + b"\nVersion: 1\n",
        "/s/a.dist-info/METADATA": b"Name: a\n" + b" b\n" * 1_000_000,
        f"{modules}/half/package.json": b'{"name": "\\ud800", "version": "\\udfff"}',
        f"{modules}/none/package.json": b'{"name": ""}',
        f"{modules}/slashes/package.json": b'{"name": "///", "version": "1"}',
        f"{modules}/number/package.json": b'{"name": "a", "version": ' + b"9" * 10_000 + b"}",
        f"{modules}/\udcff/package.json": b'{"name": "b/", "version": "@"}',
    }
    found = {each.ecosystem.value + each.name[:9]: each for each in packages.find(Files(files))}
    assert sorted(found) == ["debaaaaaaaaa", "npm?", "npmb/", "pypia\n b\n b\n "]
    assert len(found["debaaaaaaaaa"].name) < packages.MAX_LINE
    assert found["npmb/"].purl() == "pkg:npm/b@%40" and found["npmb/"].source.isascii()
    many = b"".join(b"P:p%d\n\n" % each for each in range(packages.MAX_PACKAGES + 1))
    with pytest.raises(LimitExceeded, match="more than 50000 packages"):
        packages.find(Files({"/lib/apk/db/installed": many}))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_rpm_header_or_none(data: bytes) -> None:
    rpmdb.parse(data)
    assert list(rpmdb.headers(data)) == []


def test_python_and_npm() -> None:
    site = "/usr/lib/python3/dist-packages"
    modules = "/app/node_modules"
    files = {
        f"{site}/flask-3.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: Flask\nVersion: 3.0\n\nName: body\n",
        f"{site}/six.egg-info": b"Name: six\nVersion: 1.16\n",
        f"{site}/broken.dist-info/METADATA": b"\xff\xfe",
        f"{modules}/left-pad/package.json": json.dumps({"name": "left-pad", "version": "1.3.0"}).encode(),
        f"{modules}/@a/b/package.json": json.dumps({"name": "@a/b", "version": "2.0.0", "license": "MIT"}).encode(),
        f"{modules}/left-pad/test/package.json": b'{"name": "fixture", "version": "9"}',
        f"{modules}/bad/package.json": b"[" * 100_000,
        "/app/package.json": b'{"name": "app", "version": "1"}',
    }
    assert names(files) == [
        ("npm", "@a/b", "2.0.0"),
        ("npm", "left-pad", "1.3.0"),
        ("pypi", "Flask", "3.0"),
        ("pypi", "six", "1.16"),
    ]


def test_package_urls() -> None:
    debian = Distribution("debian", "12", "Debian")
    assert Package(Ecosystem.DEB, "g++", "4:12.2", "amd64").purl(debian) == (
        "pkg:deb/debian/g%2B%2B@4:12.2?arch=amd64&distro=debian-12"
    )
    assert Package(Ecosystem.NPM, "@a/b", "1").purl(debian) == "pkg:npm/%40a/b@1"
    assert Package(Ecosystem.PYPI, "Foo_Bar", "1").purl() == "pkg:pypi/foo-bar@1"


def test_distribution() -> None:
    release = b'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\nodd line\n'
    assert packages.distribution(Files({"/usr/lib/os-release": release})) == Distribution(
        "debian", "12", "Debian GNU/Linux 12"
    )
    assert packages.distribution(Files({})) is None

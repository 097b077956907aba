from dataclasses import replace

from builder.insight.compare import Comparison, ConfigChange, Kind, PackageChange, View, compare
from builder.insight.listing import Entry
from builder.insight.packages import Ecosystem, Package
from builder.oci.configs import ContainerConfig, Healthcheck, ImageConfig

FILE = Entry("file", 0o644, 0, 0, 5, b"", (0, 0), (), (1, 1, 1))
CAPABILITY = (b"security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))


def view(entries: dict[str, Entry], packages: tuple[Package, ...] = (), **config: object) -> View:
    image = ImageConfig("amd64", "linux", replace(ContainerConfig(), **config))  # type: ignore[arg-type]
    return View("image", image, (), 0, entries, packages)


def files(before: dict[str, Entry], after: dict[str, Entry], *, same: bool = False) -> Comparison:
    return compare(view(before), view(after), lambda path: same)


def what(before: Entry, after: Entry, *, same: bool = False) -> tuple[str, ...]:
    changes = files({"/f": before}, {"/f": after}, same=same).files
    return changes[0].what if changes else ()


def test_added_and_removed() -> None:
    found = files({"/a": FILE}, {"/b": replace(FILE, mode=0o4755)})
    assert [(each.kind, each.path, each.before, each.after) for each in found.files] == [
        (Kind.REMOVED, "/a", 5, None),
        (Kind.ADDED, "/b", None, 5),
    ]
    assert [each.path for each in found.security] == ["/b"] and found.files[1].what == ("file", "mode 4755")


def test_content_is_asked_for_only_when_it_is_another_file() -> None:
    other = replace(FILE, identity=(2, 2, 2))
    assert what(FILE, FILE) == ()
    assert what(FILE, other) == ("content",)
    assert what(FILE, other, same=True) == ()
    assert what(FILE, replace(other, size=6), same=True) == ("content",)


def test_attributes() -> None:
    assert what(FILE, replace(FILE, mode=0o755)) == ("mode 0644 → 0755",)
    assert what(FILE, replace(FILE, uid=7)) == ("owner 0:0 → 7:0",)
    assert what(FILE, replace(FILE, kind="directory")) == ("file → directory",)
    assert what(replace(FILE, kind="symlink", link=b"a"), replace(FILE, kind="symlink", link=b"b")) == ("link a → b",)
    assert what(FILE, replace(FILE, xattrs=((b"user.x", b"1"),))) == ("extended attributes",)


def test_a_capability_is_a_matter_of_security() -> None:
    found = files({"/f": FILE}, {"/f": replace(FILE, xattrs=(CAPABILITY,))})
    assert found.security[0].what == ("capabilities none → 0000000000000400",)


def test_packages() -> None:
    def one(name: str, version: str, architecture: str = "amd64") -> Package:
        return Package(Ecosystem.DEB, name, version, architecture)

    before = (one("curl", "1"), one("wget", "1"), one("same", "1"), one("same", "1", "i386"))
    after = (one("curl", "2"), one("same", "1"), one("new", "3"))
    found = compare(view({}, before), view({}, after), lambda path: True)
    assert found.packages == (
        PackageChange("deb", "curl", "1", "2"),
        PackageChange("deb", "new", "", "3"),
        PackageChange("deb", "wget", "1", ""),
    )


def test_config() -> None:
    before = view({}, env=("A=1", "B=2"), labels={"x": "1"}, cmd=("sh",), user="root")
    after = view({}, env=("A=1", "B=3"), labels={}, cmd=None, user="", healthcheck=Healthcheck(("NONE",)))
    assert compare(before, after, lambda path: True).config == (
        ConfigChange("Env B", "2", "3"),
        ConfigChange("Label x", "1", None),
        ConfigChange("User", "root", None),
        ConfigChange("Cmd", '["sh"]', None),
        ConfigChange("Healthcheck", None, '{"Test": ["NONE"]}'),
    )


def test_equal_images_are_the_same_and_layers_are_shared_from_the_bottom() -> None:
    ours = replace(view({"/f": FILE}), layers=("a", "b", "c"))
    assert compare(ours, ours, lambda path: False).same
    assert compare(ours, replace(ours, layers=("a", "x", "c")), lambda path: True).shared_layers == 1

"""COPY on real directories and a real overlay: what is selected, what is written, what a cache may believe."""

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.errors import BuildError, ContextError, SourceNotFound
from builder.pipeline import filecopy
from builder.pipeline.copy_step import CopyFacts, CopySpec, Earlier, InlineFile, Selection, materialise, select
from builder.pipeline.filehash import MemoryCache
from builder.pipeline.manifest import read_manifest
from builder.pipeline.trees import Tree
from parser.ignorefile import Matcher, read
from runtime.rootfs import open_rootfs
from runtime.spec import Rootfs

pytestmark = pytest.mark.root


class Bench:
    """A context, an image of one layer, and an upper directory on it."""

    def __init__(self, place: Path, undo: ExitStack) -> None:
        self.undo = undo
        self.context = place / "context"
        self.lower = place / "lower"
        self.place = place
        self.cache = MemoryCache()
        self.count = 0
        for path in (self.context, self.lower, place / "empty"):
            path.mkdir()
            path.chmod(0o755)

    def file(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text or name)
        path.chmod(mode)
        os.utime(path, (10, 10))
        return path

    def tree(self, ignore: str = "", path: Path | None = None, *, keeps_owner: bool = False) -> Tree:
        fd = os.open(path or self.context, os.O_RDONLY | os.O_DIRECTORY)
        matcher = Matcher(read(ignore.encode())) if ignore else None
        tree = Tree(fd, "context", keeps_owner=keeps_owner, matcher=matcher, path=path or self.context)
        self.undo.callback(tree.close)
        return tree

    def select(self, *sources: str, to: str = "/out/", tree: Tree | None = None, **flags: object) -> Selection:
        spec = CopySpec(sources, to, **flags)  # type: ignore[arg-type]
        return self.undo.enter_context(select(spec, tree or self.tree(), cache=self.cache, scratch=self.scratch))

    def scratch(self) -> Path:
        self.count += 1
        path = self.place / f"scratch{self.count}"
        path.mkdir()
        return path

    def upper(self) -> Path:
        path = self.scratch()
        path.chmod(0o755)
        return path

    def write(self, selection: Selection, upper: Path, *, earlier: Earlier | None = None) -> CopyFacts:
        root = open_rootfs(Rootfs((str(self.lower),), readonly=True))
        try:
            under = None if selection.spec.link else root
            return materialise(selection, upper=upper, root=under, earlier=earlier, users=root)
        finally:
            os.close(root)

    def copy(self, *sources: str, to: str = "/out/", tree: Tree | None = None, **flags: object) -> dict[str, str]:
        """Copy and say what is in the upper directory."""
        upper = self.upper()
        self.write(self.select(*sources, to=to, tree=tree, **flags), upper)
        return listing(upper)


def listing(top: Path) -> dict[str, str]:
    """Path → "mode uid:gid what" of everything below *top*."""
    found = {}
    for directory, names, files in os.walk(top):
        for name in (*names, *files):
            path = Path(directory, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            what = {stat.S_IFDIR: "/", stat.S_IFIFO: "fifo", stat.S_IFCHR: "device"}.get(kind, "")
            if kind == stat.S_IFREG:
                what = path.read_text()
            elif kind == stat.S_IFLNK:
                what = f"-> {os.readlink(path)}"
            text = f"{stat.S_IMODE(status.st_mode):o} {status.st_uid}:{status.st_gid} {what}"
            found[str(path.relative_to(top))] = text
    return found


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ExitStack() as undo:
        yield Bench(tmp_path, undo)


# destinations


def test_a_file_into_a_directory_and_under_a_name(bench: Bench) -> None:
    bench.file("a", "A", 0o640)
    assert bench.copy("a", to="/out/") == {"out": "755 0:0 /", "out/a": "640 0:0 A"}
    assert bench.copy("a", to="/out") == {"out": "640 0:0 A"}
    assert bench.copy("a", to="x/y", workdir="/w") == {
        "w": "755 0:0 /",
        "w/x": "755 0:0 /",
        "w/x/y": "640 0:0 A",
    }


def test_an_existing_directory_keeps_what_it_has(bench: Bench) -> None:
    bench.file("a", "A")
    (bench.lower / "data").mkdir()
    (bench.lower / "data").chmod(0o1770)
    os.chown(bench.lower / "data", 5, 6)
    os.setxattr(bench.lower / "data", "user.note", b"x")
    upper = bench.upper()
    bench.write(bench.select("a", to="/data"), upper)
    assert listing(upper) == {"data": "1770 5:6 /", "data/a": "644 0:0 A"}
    assert os.getxattr(upper / "data", "user.note") == b"x"


@pytest.mark.parametrize("target", ["real", "/real", "../../real", "/../real"])
def test_a_destination_that_is_a_link_is_followed_inside_the_image(bench: Bench, target: str) -> None:
    bench.file("a", "A")
    (bench.lower / "real").mkdir()
    (bench.lower / "real").chmod(0o755)
    (bench.lower / "link").symlink_to(target)
    assert bench.copy("a", to="/link/") == {"real": "755 0:0 /", "real/a": "644 0:0 A"}


def test_a_destination_outside_is_made_inside(bench: Bench) -> None:
    bench.file("a", "A")
    (bench.lower / "link").symlink_to(f"../../../..{bench.place}/canary")
    found = bench.copy("a", to="/link")
    assert not (bench.place / "canary").exists()
    assert found[f"{str(bench.place).lstrip('/')}/canary"] == "644 0:0 A"


@pytest.mark.parametrize(
    ("source", "to", "message"),
    [
        ("a", "/file/x", "not a directory"),
        ("a", "/file/", "not a directory"),
        ("dir", "/file", "not a directory"),
        ("a", "/", None),
        ("dir", "/merge", "cannot copy to non-directory: /merge/sub"),
        ("conflict", "/merge", "cannot replace to directory"),
    ],
)
def test_what_does_not_fit(bench: Bench, source: str, to: str, message: str | None) -> None:
    bench.file("a")
    bench.file("dir/sub/x")
    bench.file("conflict/d")
    (bench.lower / "file").write_text("")
    (bench.lower / "merge/d").mkdir(parents=True)
    (bench.lower / "merge/sub").write_text("")
    if message is None:
        assert "a" in bench.copy(source, to=to)
        return
    with pytest.raises(BuildError, match=message):
        bench.copy(source, to=to)


def test_contents_merge_and_files_replace_links(bench: Bench) -> None:
    bench.file("dir/link", "new")
    bench.file("dir/sub/x", "X")
    (bench.lower / "out/sub").mkdir(parents=True)
    (bench.lower / "out/sub/old").write_text("old")
    (bench.lower / "out/link").symlink_to("sub/old")
    os.chown(bench.lower / "out/sub", 33, 34)
    upper = bench.upper()
    bench.write(bench.select("dir", to="/out"), upper)
    assert (upper / "out/sub").stat().st_uid == 0
    root = open_rootfs(Rootfs((str(upper), str(bench.lower)), readonly=True))
    try:
        assert sorted(os.listdir(root)) == ["out"]
        for path, text in (("out/link", "new"), ("out/sub/x", "X"), ("out/sub/old", "old")):
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=root)) as file:
                assert file.read() == text
    finally:
        os.close(root)


def test_heredocs(bench: Bench) -> None:
    inline = (InlineFile("one", b"1\n"), InlineFile("d/two", b""))
    assert bench.copy(to="/out/", inline=inline, chmod="u=rx,go=", chown="7:8") == {
        "out": "755 7:8 /",
        "out/one": "500 7:8 1\n",
        "out/two": "500 7:8 ",
    }
    (bench.lower / "dir").mkdir()
    assert "dir/one" in bench.copy(to="/dir", inline=inline[:1])
    assert bench.copy(to="/new", inline=inline[:1]) == {"new": "644 0:0 1\n"}


# flags


def test_link_does_not_ask_the_image(bench: Bench) -> None:
    bench.file("a", "A")
    (bench.lower / "link").symlink_to("real")
    (bench.lower / "etc").mkdir()
    (bench.lower / "etc/passwd").write_text("app:x:10:20::/:\n")
    assert bench.copy("a", to="/link/", link=True) == {"link": "755 0:0 /", "link/a": "644 0:0 A"}
    assert bench.copy("a", to="/x", link=True, chown="app") == {"x": "644 10:20 A"}


def test_parents_and_exclude(bench: Bench) -> None:
    for name in ("src/a/x.c", "src/a/y.h", "src/b/z.c", "other/w.c"):
        bench.file(name, name[-3:])

    def files(*sources: str, **flags: object) -> list[str]:
        return [path for path, text in bench.copy(*sources, **flags).items() if not text.endswith(" /")]

    assert sorted(files("src/**/*.c", parents=True)) == ["out/src/a/x.c", "out/src/b/z.c"]
    assert sorted(files("src/./a/x.c", parents=True)) == ["out/a/x.c"]
    assert sorted(files("s*/./*/*.c", parents=True)) == ["out/a/x.c", "out/b/z.c"]
    assert not files("none*/./a/x.c", parents=True)
    assert sorted(files("src", exclude=("**/*.h", "b"))) == ["out/a/x.c"]
    assert sorted(files("src", exclude=("*", "!a/y.h"))) == ["out/a/y.h"]
    with pytest.raises(SourceNotFound):
        files("src/none.c", parents=True)


def test_modes_and_owners(bench: Bench) -> None:
    bench.file("d/plain", "p", 0o600)
    bench.file("d/setuid", "s", 0o4755)
    assert bench.copy("d", to="/out", chmod="a+rX", chown="1:2")["out/plain"] == "644 1:2 p"
    assert bench.copy("d", to="/out", chown="1:2")["out/setuid"] == "4755 1:2 s"
    assert bench.copy("d", to="/out", chmod="0751")["out/setuid"] == "751 0:0 s"


def test_names_of_users_come_from_the_image(bench: Bench) -> None:
    bench.file("a", "A")
    (bench.lower / "etc").mkdir()
    (bench.lower / "etc/passwd").write_text("app:x:10:20::/:\n")
    (bench.lower / "etc/group").write_text("web:x:30:\n")
    assert bench.copy("a", to="/a", chown="app:web") == {"a": "644 10:30 A"}
    with pytest.raises(BuildError, match="no such user: root"):
        bench.copy("a", to="/a", chown="root")


# contents


def test_all_kinds_of_files(bench: Bench) -> None:
    bench.file("d/file", "F")
    os.link(bench.context / "d/file", bench.context / "d/second")
    (bench.context / "d/dangling").symlink_to("/nowhere")
    os.mkfifo(bench.context / "d/fifo", 0o620)
    os.mknod(bench.context / "d/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(bench.context / "d/file", "user.kept", b"1")
    (bench.context / "d/empty").mkdir()
    bench.file("d/new\nline \udcff ☺", "odd")
    upper = bench.upper()
    facts = bench.write(bench.select("d", to="/out"), upper)
    found = listing(upper)
    assert found["out/dangling"].endswith("-> /nowhere")
    assert found["out/fifo"].endswith("fifo")
    assert found["out/null"].endswith("device")
    assert found["out/empty"].endswith("/")
    assert found["out/new\nline \udcff ☺"].endswith("odd")
    assert (upper / "out/file").stat().st_ino == (upper / "out/second").stat().st_ino
    assert os.getxattr(upper / "out/file", "user.kept") == b"1"
    assert (upper / "out/null").stat().st_rdev == os.makedev(1, 3)
    assert (upper / "out/file").stat().st_mtime == 10
    assert (facts.files, facts.size) == (3, 4)


def test_a_socket_becomes_an_empty_file(bench: Bench) -> None:
    import socket

    bench.file("d/x", "X")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(bench.context / "d/socket"))
        (bench.context / "d/socket").chmod(0o640)
        assert bench.copy("d", to="/out")["out/socket"].startswith("640 0:0")
        upper = bench.upper()
        bench.write(bench.select("d/socket", to="/s"), upper)
        assert (upper / "s").is_file()


@pytest.mark.parametrize(("chmod", "new"), [("0600", "600"), ("4711", "711"), ("u=rw,go=", "755"), (None, "755")])
def test_an_octal_chmod_holds_for_directories_on_the_way(bench: Bench, chmod: str | None, new: str) -> None:
    bench.file("f", "F")
    bench.file("d/sub/g", "G")
    (bench.lower / "there").mkdir(0o750)
    modes = bench.copy("f", to="/there/a/b/c", chmod=chmod)
    assert [modes[path].split()[0] for path in ("there", "there/a", "there/a/b")] == ["750", new, new]
    assert bench.copy("d", to="/new", chmod=chmod)["new"].split()[0] == new
    inline = (InlineFile("one", b"1"),)
    assert bench.copy(to="/p/", inline=inline, chmod=chmod)["p"].split()[0] == new


def test_a_device_that_means_deleted_is_refused(bench: Bench) -> None:
    (bench.context / "d").mkdir()
    os.mknod(bench.context / "d/gone", stat.S_IFCHR, 0)
    with pytest.raises(BuildError, match="0:0"):
        bench.copy("d", to="/out")


def test_holes_stay_holes(bench: Bench) -> None:
    size = 64 << 20
    with open(bench.file("sparse"), "r+b") as file:
        file.truncate(size)
        file.seek(size // 2)
        file.write(b"middle")
        file.truncate(size)
    upper = bench.upper()
    bench.write(bench.select("sparse", to="/sparse"), upper)
    status = (upper / "sparse").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < size // 8
    with open(upper / "sparse", "rb") as file:
        file.seek(size // 2)
        assert file.read(8) == b"middle\0\0"


def test_context_files_become_roots_and_images_files_do_not(bench: Bench) -> None:
    os.chown(bench.file("a", "A"), 5, 6)
    assert bench.copy("a", to="/a") == {"a": "644 0:0 A"}
    assert bench.copy("a", to="/a", tree=bench.tree(keeps_owner=True)) == {"a": "644 5:6 A"}


# selections and their digests


def test_the_digest_knows_everything_but_times(bench: Bench) -> None:
    path = bench.file("d/a", "A")

    def digest() -> str:
        return bench.select("d").digest

    first = digest()
    os.utime(path, (99, 99))
    assert digest() == first
    seen = {first}
    path.chmod(0o600)
    seen.add(digest())
    path.write_text("B")
    seen.add(digest())
    os.setxattr(path, "user.x", b"1")
    seen.add(digest())
    path.rename(path.with_name("b"))
    seen.add(digest())
    (bench.context / "d").chmod(0o700)
    digest()
    (bench.context / "d/empty").mkdir()
    seen.add(digest())
    (bench.context / "d/b").unlink()
    (bench.context / "d/b").symlink_to("x")
    seen.add(digest())
    assert len(seen) == 7


def test_a_change_that_stat_barely_shows_is_seen(bench: Bench) -> None:
    """Same size, same mtime, rewritten right after it was read: git's racy case."""
    path = bench.file("a", "AAAA")
    first = bench.select("a").digest
    path.write_text("BBBB")
    os.utime(path, (10, 10))
    assert bench.select("a").digest != first


def test_an_old_file_is_not_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filecopy, "GRAIN", -1)  # a clock of infinite grain: no file is young
    monkeypatch.setattr(filecopy, "COARSE_GRAIN", -1)
    bench.file("a", "A")
    first = bench.select("a").digest
    (key,) = bench.cache.files
    bench.cache.files[key] = bytes(32)
    assert bench.select("a").digest == first  # by the selection as a whole
    bench.cache.selections.clear()
    assert bench.select("a").digest != first  # the false digest was believed: the file was not read


def test_manifests_name_what_differs(bench: Bench) -> None:
    bench.file("d/a", "A")
    bench.file("d/b", "B")
    before = read_manifest(bench.select("d").manifest())
    bench.file("d/b", "C")
    after = read_manifest(bench.select("d").manifest())
    assert {name for name in before if before[name] != after[name]} == {"/d/b"}


def test_missing_and_hidden_sources(bench: Bench) -> None:
    bench.file("a")
    bench.file("d/x")
    tree = bench.tree("a\nd\n")
    for source in ("none", "a", "d", "a/b", "../none"):
        with pytest.raises(SourceNotFound):
            bench.select(source, tree=tree)
    assert bench.select("*", tree=tree).files == 0
    assert bench.select("../d/x", tree=bench.tree()).files == 1
    with pytest.raises(BuildError):
        bench.select("[", tree=tree)
    with pytest.raises(BuildError, match="no build context"):
        select(CopySpec(("a",), "/"), None)


@pytest.mark.parametrize("target", ["../../secret", "/secret", "../../../../../../../../secret"])
def test_links_never_lead_out_of_the_context(bench: Bench, target: str) -> None:
    (bench.place / "secret").write_text("theirs")
    (bench.context / "d").mkdir()
    (bench.context / "d/link").symlink_to(target)
    with pytest.raises(SourceNotFound):
        bench.select("d/link")
    bench.file("secret", "mine")
    assert bench.copy("d/link", to="/x") == {"x": "644 0:0 mine"}


# what changes meanwhile


def test_a_file_that_changes_after_it_was_selected_is_not_copied(bench: Bench) -> None:
    path = bench.file("a", "A" * 10)
    selection = bench.select("a", to="/a")
    path.write_text("B" * 10)
    with pytest.raises(ContextError, match="changed while it was read"):
        bench.write(selection, bench.upper())


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "gone"])
def test_a_file_that_becomes_something_else(bench: Bench, what: str) -> None:
    (bench.place / "secret").write_text("A")
    path = bench.file("d/a", "A")
    selection = bench.select("d", to="/out")
    path.unlink()
    if what == "link":
        path.symlink_to(bench.place / "secret")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    upper = bench.upper()
    with pytest.raises(ContextError):
        bench.write(selection, upper)
    assert not (upper / "out/a").exists()


def test_a_directory_that_becomes_a_link(bench: Bench) -> None:
    (bench.place / "secret").mkdir()
    (bench.place / "secret/a").write_text("A")
    bench.file("d/sub/a", "A")
    selection = bench.select("d", to="/out")
    shutil.rmtree(bench.context / "d/sub")
    (bench.context / "d/sub").symlink_to(bench.place / "secret")
    with pytest.raises(ContextError):
        bench.write(selection, bench.upper())


def test_swapping_races_never_show_the_other_side(bench: Bench) -> None:
    """A directory and a link to a secret change places all the time; every outcome is the true file or an error."""
    import threading

    (bench.place / "secret").mkdir()
    (bench.place / "secret/a").write_text("secret")
    bench.file("d/sub/a", "true")
    (bench.context / "d/other").symlink_to(bench.place / "secret")
    from runtime.linux.files import RENAME_EXCHANGE, renameat2

    done = threading.Event()
    fd = os.open(bench.context / "d", os.O_RDONLY | os.O_DIRECTORY)

    def swap() -> None:
        while not done.is_set():
            renameat2(fd, "sub", fd, "other", RENAME_EXCHANGE)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(60):
            try:
                found = bench.copy("d/sub", to="/out")
            except (ContextError, BuildError):  # SourceNotFound is one: the link leads nowhere inside
                continue
            assert found == {"out": "755 0:0 /", "out/a": "644 0:0 true"}
    finally:
        done.set()
        thread.join()
        os.close(fd)


# many files


def test_many_files_in_worker_processes(bench: Bench) -> None:
    for number in range(1600):
        (bench.context / f"d/{number % 7}/e").mkdir(parents=True, exist_ok=True)
        (bench.context / f"d/{number % 7}/e/{number}").write_text(str(number))
    upper = bench.upper()
    facts = bench.write(bench.select("d", to="/out", chmod="0640", chown="3:4"), upper)
    assert facts.files == 1600
    found = listing(upper)
    assert found["out/3/e/10"] == "640 3:4 10"
    assert sum("640 3:4" in text for text in found.values()) >= 1600


def test_a_worker_reports_what_it_cannot_read(bench: Bench) -> None:
    for number in range(1600):
        bench.file(f"d/{number}", "x")
    selection = bench.select("d", to="/out", chown="nobody")  # by name: nothing is spooled
    (bench.lower / "etc").mkdir()
    (bench.lower / "etc/passwd").write_text("nobody:x:1:1::/:\n")
    (bench.context / "d/800").write_text("changed")
    with pytest.raises(ContextError, match='"/d/800" in context changed'):
        bench.write(selection, bench.upper())


def test_unchanged_files_are_linked_from_the_layer_before(bench: Bench) -> None:
    for number in range(5):
        bench.file(f"d/{number}", str(number))
    selection, first = bench.select("d", to="/out"), bench.upper()
    bench.write(selection, first)
    before = Earlier(first, selection.manifest())
    bench.file("d/2", "changed")
    (bench.context / "d/3").chmod(0o600)
    os.utime(bench.context / "d/4", (77, 77))
    second = bench.upper()
    facts = bench.write(bench.select("d", to="/out"), second, earlier=before)
    assert facts.linked == 2
    same = [name for name in "01234" if os.path.samefile(first / "out" / name, second / "out" / name)]
    assert same == ["0", "1"]
    assert (first / "out/2").read_text() == "2"
    assert (second / "out/2").read_text() == "changed"
    assert (second / "out/4").stat().st_mtime == 77


@pytest.mark.parametrize("sources", [("*/version",), ("a", "b"), ("a/version", "b/version")])
def test_what_another_source_left_in_the_layer_before_is_not_taken_for_the_same_file(
    bench: Bench, sources: tuple[str, ...]
) -> None:
    bench.file("a/version", "1.0")
    bench.file("b/version", "2.0")
    selection, first = bench.select(*sources), bench.upper()
    bench.write(selection, first)
    assert (first / "out/version").read_text() == "2.0"
    (bench.context / "b/version").unlink()
    second = bench.upper()
    left = tuple(source for source in sources if source != "b/version")
    bench.write(bench.select(*left), second, earlier=Earlier(first, selection.manifest()))
    assert (second / "out/version").read_text() == "1.0"

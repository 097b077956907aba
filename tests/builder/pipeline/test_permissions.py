"""--chown and --chmod: numbers, names of the image's own files, symbolic modes against chmod(1)."""

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import BuildError
from builder.pipeline.permissions import MAX_FILE, chmod, numeric_owner, owner


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/:\nbroken\napp:x:1000:1001::/:\nbad:x:minus:0::/:\n")
    (tmp_path / "etc/group").write_text("root:x:0:\nweb:x:33:\n")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", (12, 12)),
        ("12:34", (12, 34)),
        ("app", (1000, 1001)),
        ("app:web", (1000, 33)),
        ("app:7", (1000, 7)),
        ("7:web", (7, 33)),
        (":web", (0, 33)),
        ("root", (0, 0)),
        ("app:", (1000, 1001)),
        ("4294967294", (4294967294, 4294967294)),
    ],
)
def test_owner(root: int, text: str, expected: tuple[int, int]) -> None:
    assert owner(text, root) == expected


@pytest.mark.parametrize("text", ["nobody", "bad", "app:nogroup", "4294967295", "99999999999"])
def test_owner_that_is_none(root: int, text: str) -> None:
    with pytest.raises(BuildError):
        owner(text, root)


def test_names_without_an_image() -> None:
    assert numeric_owner("1:2") == (1, 2)
    assert numeric_owner("app:2") is None
    with pytest.raises(BuildError, match="no such user: app"):
        owner("app", None)


def test_the_hosts_accounts_are_never_asked(root: int, tmp_path: Path) -> None:
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to("/etc/passwd")  # a loop inside the image
    with pytest.raises(BuildError):
        owner("root", root)
    (tmp_path / "etc/passwd").unlink()
    (tmp_path / "etc/passwd").symlink_to("../../../../../accounts")
    (tmp_path / "accounts").write_text("app:x:5:6::/:\n")
    assert owner("app", root) == (5, 6)


@pytest.mark.parametrize("kind", ["fifo", "directory", "large"])
def test_an_account_file_that_is_none(root: int, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "etc/passwd"
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)  # opening it must not wait for a writer
    elif kind == "directory":
        path.mkdir()
    else:
        with open(path, "wb") as file:
            file.truncate(MAX_FILE + 1)
    with pytest.raises(BuildError):
        owner("app", root)


@pytest.mark.parametrize("text", ["", "8", "77777", "u+", "u=rwz", "rwx", "u+rw,", "-1", "0o755", "+t +x"])
def test_chmod_that_is_none(text: str) -> None:
    if text == "u+":  # chmod(1) takes an empty set of permissions
        assert chmod(text)(stat.S_IFREG | 0o640) == 0o640
        return
    with pytest.raises(BuildError, match="invalid chmod parameter"):
        chmod(text)


@pytest.mark.parametrize(("text", "mode"), [("755", 0o755), ("0", 0), ("4755", 0o4755), ("07777", 0o7777)])
def test_octal(text: str, mode: int) -> None:
    assert chmod(text)(stat.S_IFREG | 0o600) == mode
    assert chmod(text)(stat.S_IFDIR | 0o600) == mode


CLAUSES = st.builds(
    lambda who, steps: who + "".join(steps),
    st.text(alphabet="ugoa", max_size=3),
    st.lists(
        st.builds(
            lambda operator, what: operator + what,
            st.sampled_from("+-="),
            st.one_of(st.text(alphabet="rwxX", max_size=4), st.sampled_from(["s", "t", "u", "g", "o"])),
        ),
        min_size=1,
        max_size=2,
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CLAUSES, min_size=1, max_size=3), st.integers(0, 0o777), st.booleans())
def test_symbolic_modes_are_those_of_chmod(
    tmp_path_factory: pytest.TempPathFactory, clauses: list[str], mode: int, is_directory: bool
) -> None:
    text = ",".join(clauses)
    path = tmp_path_factory.mktemp("chmod") / "thing"
    if is_directory:
        path.mkdir()
    else:
        path.touch()
    path.chmod(mode)
    subprocess.run(["chmod", "--", text, path], umask=0o022, check=True, stderr=subprocess.DEVNULL)
    got = chmod(text)((stat.S_IFDIR if is_directory else stat.S_IFREG) | mode)
    assert f"{got:04o}" == f"{stat.S_IMODE(path.stat().st_mode):04o}"

"""The table of `images --tree`."""

from builder.cli.imagetree import lines
from builder.engine.imagetree import Branch, Tree
from builder.oci import digests

ID = digests.of(b"x")
SHORT = ID[7:19]
TREES = (
    Tree(
        ("app:1", "app:latest"),
        ID,
        119_000_000,
        31_700_000,
        used=True,
        branches=(
            Branch("linux/amd64", ID, here=True, usage=119_000_000, content=31_700_000, used=True),
            Branch("linux/arm/v7", ID, here=False, usage=0, content=0, used=False),
        ),
    ),
    Tree(("plain:1",), ID, 5, 6, used=False),
    Tree((), ID, 5, 6, used=False),
)


def test_platforms_are_branches_and_what_is_alone_is_not_set_apart() -> None:
    assert list(lines(TREES, width=70, terminal=False)) == [
        "                                                  i Info →   U  In Use",
        "IMAGE             ID             DISK USAGE   CONTENT SIZE   EXTRA",
        "app:1",
        f"app:latest        {SHORT}        119MB         31.7MB    U",
        f"├─ linux/amd64    {SHORT}        119MB         31.7MB    U",
        f"└─ linux/arm/v7   {SHORT}           0B             0B",
        "",
        f"plain:1           {SHORT}           5B             6B",
        f"<untagged>        {SHORT}           5B             6B",
    ]


def test_long_names_are_cut_and_a_terminal_shows_what_is_not_here() -> None:
    long = (Tree(("a" * 90,), ID, 1, 1, used=False, branches=TREES[0].branches),)
    found = list(lines(long, width=20, terminal=True))
    assert found[2].startswith("aaaaaaaaa...   ")
    assert found[1].startswith("\x1b[1mIMAGE") and found[4].startswith("\x1b[2m└─ linux")

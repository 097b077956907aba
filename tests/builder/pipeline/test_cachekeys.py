"""Keys change with every leaf, and a miss says which one."""

from builder.pipeline import cachekeys


def test_no_two_lists_of_leaves_run_together() -> None:
    assert cachekeys.key([("a", "bc")], "p") != cachekeys.key([("ab", "c")], "p")
    assert cachekeys.key([("a", "b")], "p") != cachekeys.key([("a", "b")], "q")


def test_a_miss_names_the_leaf() -> None:
    old = {"instruction": "RUN a", "argument V": "1", "variable E": "1"}
    assert cachekeys.why(old, {**old, "argument V": "2"}) == "build arg V changed"
    assert cachekeys.why(old, {**old, "variable N": "2"}) == "ENV N added"
    assert cachekeys.why(old, {**old, "instruction": "RUN b"}) == "instruction changed"
    assert cachekeys.why({**old, "files": "1"}, {**old, "files": "2"}, ["src/app.py content changed", "x added"]) == (
        "src/app.py content changed and 1 more"
    )
    assert cachekeys.why(old, dict(old)) == ""


def test_changed_files_come_first_and_say_what_of_them_changed() -> None:
    old = {"/a": "f 0644 0:0 11", "/b": "f 0644 0:0 22", "/gone": "f 0644 0:0 33"}
    new = {"/a": "f 0755 0:0 11", "/b": "f 0644 0:0 23", "/new": "f 0644 0:0 44"}
    assert cachekeys.changed_files(old, new) == ("a mode changed", "b content changed", "new added", "gone removed")

"""The standard library: each function's result, and that wrong arguments are refused."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.engine.bake import functions
from builder.engine.bake.values import Unfit, Value, as_set, equal, fingerprint

CASES: Sequence[tuple[str, tuple[Value, ...], Value]] = [
    ("absolute", (-3,), 3),
    ("add", ("2", 3), 5),
    ("and", (True, "false"), False),
    ("base64decode", ("aGk=",), "hi"),
    ("base64encode", ("hi",), "aGk="),
    ("basename", ("/a/b/",), "b"),
    ("basename", ("",), "."),
    ("byteslen", ("é",), 2),
    ("bytesslice", ("héllo", 0, 3), "hé"),
    ("ceil", (1.2,), 2),
    ("chomp", ("a\r\n\n",), "a"),
    ("chunklist", ((1, 2, 3), 2), ((1, 2), (3,))),
    ("cidrhost", ("10.0.0.0/8", -2), "10.255.255.254"),
    ("cidrhost", ("fd00::/64", 5), "fd00::5"),
    ("cidrnetmask", ("172.16.0.0/12",), "255.240.0.0"),
    ("cidrsubnet", ("172.16.0.0/12", 4, 2), "172.18.0.0/16"),
    ("cidrsubnets", ("10.1.0.0/16", 4, 4, 8), ("10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24")),
    ("coalesce", (None, 2, 3), 2),
    ("coalescelist", ((), ("a",)), ("a",)),
    ("compact", (("a", "", None, "b"),), ("a", "b")),
    ("concat", ((1,), (2, 3)), (1, 2, 3)),
    ("contains", ((1, "2"), 2), False),
    ("csvdecode", ("a,b\n1,2\n",), ({"a": "1", "b": "2"},)),
    ("dirname", ("/a/b",), "/a"),
    ("dirname", ("a",), "."),
    ("distinct", (("a", "b", "a"),), ("a", "b")),
    ("divide", (10, 4), 2.5),
    ("element", (("a", "b"), 3), "b"),
    ("equal", (1, 1.0), True),
    ("flatten", (((1, (2,)), 3),), (1, 2, 3)),
    ("floor", (1.8,), 1),
    ("format", ("%s-%03d %q %v %.2f %x", "a", 7, 'b"', True, 1.005, 255), 'a-007 "b\\"" true 1.00 ff'),
    ("format", ("%[2]s%[1]s %% %-4s|%4[1]s|", "a", "b"), "ba % b   |   a|"),
    (
        "formatdate",
        ("YYYY-MM-DD'T'hh:mm:ssZ EEE MMM D H AA", "2026-02-03T14:05:06Z"),
        "2026-02-03T14:05:06Z Tue Feb 3 2 PM",
    ),
    ("formatlist", ("%s:%d", ("a", "b"), 1), ("a:1", "b:1")),
    ("greaterthan", (2, 1), True),
    ("greaterthanorequalto", (1, 1), True),
    ("hasindex", (("a",), 1), False),
    ("hasindex", ({"a": 1}, "a"), True),
    ("indent", (2, "a\nb"), "a\n  b"),
    ("index", (("a", "b"), 1), "b"),
    ("indexof", (("a", "b"), "b"), 1),
    ("int", (-1.7,), -1),
    ("join", ("-", ("a", 1), ("b",)), "a-1-b"),
    ("jsondecode", ('{"a": [1, 1.0, null]}',), {"a": (1, 1, None)}),
    ("jsonencode", ({"b": (1, None), "a": "<"},), '{"a":"\\u003c","b":[1,null]}'),
    ("keys", ({"b": 1, "a": 2},), ("a", "b")),
    ("length", (("a", "b"),), 2),
    ("lessthan", (1, 2), True),
    ("lessthanorequalto", (2, 2), True),
    ("log", (16, 2), 4),
    ("lookup", ({"a": 1}, "b", 7), 7),
    ("lower", ("ÀB",), "àb"),
    ("max", (1, "3", 2), 3),
    ("md5", ("hello",), "5d41402abc4b2a76b9719d911017c592"),
    ("merge", ({"a": 1}, None, {"a": 2, "b": 3}), {"a": 2, "b": 3}),
    ("min", (1, 3), 1),
    ("modulo", (-7, 3), -1),
    ("multiply", (3, 4), 12),
    ("negate", (3,), -3),
    ("not", (True,), False),
    ("notequal", (1, 2), True),
    ("or", (False, True), True),
    ("parseint", ("-ff", 16), -255),
    ("pow", (2, 10), 1024),
    ("range", (3,), (0, 1, 2)),
    ("range", (1, 4), (1, 2, 3)),
    ("range", (3, 1), (3, 2)),
    ("range", (0, 1, 0.25), (0, 0.25, 0.5, 0.75)),
    ("regex", ("[a-z]+", "53453453.345345aaabbbccc23454"), "aaabbbccc"),
    ("regex", ("(\\d+)-(\\d+)", "1-2"), ("1", "2")),
    ("regex", ("(?P<year>[[:digit:]]+)", "in 2026"), {"year": "2026"}),
    ("regex_replace", ("v1.2.3", "v(\\d+)\\.(\\d+)", "$2-${1}$$"), "2-1$.3"),
    ("regexall", ("[a-z]", "a1b"), ("a", "b")),
    ("replace", ("1.2.3", ".", "-"), "1-2-3"),
    ("reverse", ("abe\u0301",), "e\u0301ba"),
    ("reverselist", ((1, 2),), (2, 1)),
    ("sanitize", ("a/b.c-d_é",), "a_b_c-d__"),
    ("sethaselement", (("a",), "a"), True),
    ("setintersection", ((3, 1, 2), (2, 3)), (2, 3)),
    ("setproduct", (("a", "b"), (1, 2)), (("a", 1), ("a", 2), ("b", 1), ("b", 2))),
    ("setsubtract", (("a", "b"), ("a",)), ("b",)),
    ("setsymmetricdifference", ((1, 2), (2, 3)), (1, 3)),
    ("setunion", (("b", "a"), ("c", "a")), ("a", "b", "c")),
    ("sha1", ("",), "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
    ("sha256", ("",), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    ("signum", (-5,), -1),
    ("slice", (("a", "b", "c"), 1, 3), ("b", "c")),
    ("sort", (("b", "a"),), ("a", "b")),
    ("split", (",", "a,b,"), ("a", "b", "")),
    ("strlen", ("e\u0301x",), 2),
    ("substr", ("hello", 1, 3), "ell"),
    ("substr", ("hello", -3, -1), "llo"),
    ("subtract", (5, 3), 2),
    ("timeadd", ("2026-01-01T00:00:00Z", "-1h30m"), "2025-12-31T22:30:00Z"),
    ("title", ("hello wORLD-x",), "Hello WORLD-X"),
    ("trim", ("?!hi!?", "!?"), "hi"),
    ("trim", (" a ", ""), " a "),
    ("trimprefix", ("v1", "v"), "1"),
    ("trimspace", (" a\n",), "a"),
    ("trimsuffix", ("a.x", ".x"), "a"),
    ("upper", ("é",), "É"),
    ("urlencode", ("a b&c~/",), "a+b%26c~%2F"),
    ("uuidv5", ("dns", "www.terraform.io"), "a5008fae-b28c-5ba5-96cd-82b4c53552d6"),
    ("values", ({"b": 1, "a": 2},), (2, 1)),
    ("zipmap", (("a", "b"), (1, 2)), {"a": 1, "b": 2}),
]


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_a_function_has_its_result(name: str, arguments: tuple[Value, ...], expected: Value) -> None:
    found = functions.STANDARD[name](*arguments)
    assert equal(found, expected), found


@pytest.mark.parametrize(
    ("version", "constraint", "fits"),
    [
        ("1.2.3", "1.2.3", True),
        ("v1.2.3+build", "=1.2", True),
        ("1.2.3", "!=1.2.x", False),
        ("1.2.3", ">=1.2, <2", True),
        ("2.0.0", ">= 1.2 < 2", False),
        ("1.2.3", ">1.2", False),
        ("1.3.0", ">1.2", True),
        ("1.2.9", "<=1.2", True),
        ("1.4.9", "~1.4.2", True),
        ("1.5.0", "~1.4.2", False),
        ("1.9.0", "~1", True),
        ("1.9.0", "^1.2.3", True),
        ("0.3.0", "^0.2.3", False),
        ("0.0.3", "^0.0.3", True),
        ("0.0.4", "^0.0.3", False),
        ("3.1.0", "^1 || 3.x", True),
        ("1.2.3", "*", True),
        ("1.2.3-rc.2", ">=1.2.3-rc.1", True),
        ("1.2.3-rc.10", ">1.2.3-rc.9", True),
        ("1.2.3-rc.1", ">=1.0.0", False),
    ],
)
def test_versions_fit_constraints(version: str, constraint: str, fits: bool) -> None:
    assert functions.STANDARD["semvercmp"](version, constraint) is fits


def test_times_have_fields() -> None:
    found = functions.STANDARD["unixtimestampparse"](1690328596)
    assert isinstance(found, dict)
    assert (found["rfc3339"], found["month_name"], found["weekday_name"]) == ("2023-07-25T23:43:16Z", "July", "Tuesday")
    assert functions.STANDARD["rfc3339parse"]("2023-07-25T23:43:16Z") == found


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add", ("x", 1)),
        ("base64decode", ("?",)),
        ("bcrypt", ("x",)),
        ("bytesslice", ("a", 0, 2)),
        ("cidrhost", ("10.0.0.0", 1)),
        ("cidrhost", ("10.0.0.0/30", 4)),
        ("cidrsubnet", ("10.0.0.0/30", 3, 0)),
        ("cidrsubnets", ("10.0.0.0/30", 2, 2, 2, 2, 2)),
        ("coalesce", (None,)),
        ("csvdecode", ("a,b\n1\n",)),
        ("divide", (1, 0)),
        ("element", ((), 0)),
        ("format", ("%d",)),
        ("format", ("%s", 1, 2)),
        ("format", ("%99999s", "x")),
        ("formatdate", ("QQ", "2026-01-01T00:00:00Z")),
        ("indent", (10**9, "\n")),
        ("jsondecode", ("{",)),
        ("length", ("text",)),
        ("log", (0, 2)),
        ("parseint", ("12", 2)),
        ("pow", (10, 10**9)),
        ("range", (10**9,)),
        ("range", (1, 2, -1)),
        ("regex", ("x", "y")),
        ("regex", ("(", "y")),
        ("rsadecrypt", ("a", "b")),
        ("semvercmp", ("1.2.3.4", "1")),
        ("semvercmp", ("1.2.3", "about 1")),
        ("semvercmp", ("1.2.3", "")),
        ("slice", (("a",), 1, 3)),
        ("timeadd", ("2026-01-01T00:00:00Z", "1 day")),
        ("upper", (None,)),
        ("uuidv5", ("nonsense", "x")),
        ("zipmap", (("a",), ())),
    ],
)
def test_what_cannot_be_is_refused(name: str, arguments: tuple[Value, ...]) -> None:
    with pytest.raises(Unfit):
        functions.STANDARD[name](*arguments)


@pytest.mark.parametrize(("name", "least", "most"), [("upper", 1, 1), ("max", 1, None), ("range", 1, 3)])
def test_the_number_of_arguments_is_checked(name: str, least: int, most: int | None) -> None:
    function = functions.STANDARD[name]
    for count in range(6):
        if least <= count and (most is None or count <= most):
            functions.check_arity(function, name, count)
        else:
            with pytest.raises(Unfit):
                functions.check_arity(function, name, count)


scalars = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3)


@given(st.lists(scalars, max_size=6), st.lists(scalars, max_size=6))
def test_sets_are_sets(left: list[Value], right: list[Value]) -> None:
    union, common = functions.STANDARD["setunion"], functions.STANDARD["setintersection"]
    less, either = functions.STANDARD["setsubtract"], functions.STANDARD["setsymmetricdifference"]
    a, b = tuple(left), tuple(right)
    marks = {fingerprint(one) for one in left}, {fingerprint(one) for one in right}
    assert {fingerprint(one) for one in union(a, b)} == marks[0] | marks[1]  # type: ignore[union-attr]
    assert {fingerprint(one) for one in common(a, b)} == marks[0] & marks[1]  # type: ignore[union-attr]
    assert {fingerprint(one) for one in less(a, b)} == marks[0] - marks[1]  # type: ignore[union-attr]
    assert {fingerprint(one) for one in either(a, b)} == marks[0] ^ marks[1]  # type: ignore[union-attr]
    assert as_set(a) == as_set(reversed(as_set(a)))


@given(
    st.sampled_from(sorted(functions.STANDARD)),
    st.lists(scalars | st.lists(scalars, max_size=3).map(tuple), max_size=4),
)
def test_no_argument_breaks_a_function(name: str, arguments: list[Value]) -> None:
    """Whatever is given: a value comes back, or the reason why not."""
    function = functions.STANDARD[name]
    try:
        functions.check_arity(function, name, len(arguments))
        function(*arguments)
    except Unfit:
        pass


@given(st.text(max_size=20), st.integers(-10, 10), st.integers(-1, 10))
def test_substr_never_fails_on_offsets(text: str, offset: int, length: int) -> None:
    found = functions.STANDARD["substr"](text, offset, length)
    assert isinstance(found, str)
    assert found in text

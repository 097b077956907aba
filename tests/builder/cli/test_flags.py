"""Options are read as pflag reads them."""

import pytest

from builder.cli import flags as f

FLAGS = (
    f.switch("interactive", "", short="i"),
    f.switch("tty", "", short="t"),
    f.many("publish", "", short="p"),
    f.Flag("memory", "", short="m"),
    f.Flag("number", "", kind=f.INT),
    f.Flag("filter", "", kind=f.CSV),
    f.Flag("sbom", "", kind=f.OPTIONAL, implied="true"),
    f.Flag("proxy", "", kind=f.BOOL, default=True),
)


def read(*words: str, stop: bool = False) -> tuple[f.Values, list[str]]:
    return f.parse(FLAGS, words, stop_at_argument=stop)


def test_letters_combine_and_the_last_may_take_a_value() -> None:
    values, rest = read("-itp", "80:80", "-p443:443", "-p=1:1", "image")
    assert values.on("interactive") and values.on("tty")
    assert values.all("publish") == ("80:80", "443:443", "1:1")
    assert rest == ["image"]


def test_values_stand_beside_or_after_an_equals_sign() -> None:
    assert read("--memory=1g")[0].text("memory") == "1g"
    assert read("--memory", "1g")[0].text("memory") == "1g"
    assert read("--number", "0x10")[0].number("number") == 16


def test_booleans_take_a_value_only_after_an_equals_sign() -> None:
    values, rest = read("--proxy=false", "--tty", "false")
    assert not values.on("proxy") and values.on("tty") and rest == ["false"]
    assert read()[0].on("proxy")


def test_an_optional_value_never_eats_the_next_word() -> None:
    values, rest = read("--sbom", "x")
    assert values.text("sbom") == "true" and rest == ["x"]


def test_commas_split_only_where_they_should() -> None:
    values, _ = read("--filter", "a,b", "-p", "1,2")
    assert values.all("filter") == ("a", "b") and values.all("publish") == ("1,2",)


def test_what_follows_the_image_belongs_to_the_container() -> None:
    _, rest = read("-t", "image", "ls", "-i", "--nope", stop=True)
    assert rest == ["image", "ls", "-i", "--nope"]
    _, rest = read("--", "-i")
    assert rest == ["-i"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--memry", "1"], "unknown flag: --memry (did you mean --memory?)"),
        (["-ix"], "unknown shorthand flag: 'x' in -ix"),
        (["--memory"], "flag needs an argument: --memory"),
        (["-im"], "flag needs an argument: 'm' in -im"),
        (["--number", "x"], 'invalid argument "x" for "--number" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (["--tty=x"], 'invalid argument "x" for "-t, --tty" flag: strconv.ParseBool: parsing "x": invalid syntax'),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_what_cannot_be_read_is_told_in_pflags_words(words: list[str], text: str) -> None:
    with pytest.raises(f.UsageError) as caught:
        read(*words)
    assert str(caught.value) == text


def test_the_nearest_word_is_meant() -> None:
    assert f.closest("biuld", ["build", "run"]) == "build"
    assert f.closest("xyzzy", ["build", "run"]) is None

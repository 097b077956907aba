"""HCL text to syntax and values: what each form means, where errors point, and that no text breaks the reader."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.engine.bake import evaluate, hcl
from builder.engine.bake import syntax as s
from builder.engine.bake.values import Value
from builder.errors import BakeError


class Names:
    """Variables without any file."""

    def __init__(self, **values: Value) -> None:
        self.values = values

    def variable(self, name: str, place: s.Place) -> Value:
        if name not in self.values:
            raise place.error(f"no {name}")
        return self.values[name]

    def function(self, name: str, place: s.Place) -> None:
        return None

    def known(self) -> tuple[str, ...]:
        return tuple(self.values)

    def functions_known(self) -> tuple[str, ...]:
        return ()


def value(text: str, **names: Value) -> Value:
    """The value of the attribute `a` in a file that says `a = text`."""
    body = hcl.parse(f"a = {text}\n", name="f.hcl")
    return evaluate.evaluate(body.attributes[0].value, evaluate.Scope(Names(**names)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1.5e3", 1500),
        ("-15", -15),
        ("- 3", -3),
        ("0.25", 0.25),
        ("true", True),
        ("null", None),
        ('"a\\n\\t\\"\\\\\\u00e9"', 'a\n\t"\\é'),
        ('"$${x} %%{y} $x 100% $"', "${x} %{y} $x 100% $"),
        ('"  lead # no comment // none"', "  lead # no comment // none"),
        ("[1, 2,\n 3, # three\n]", (1, 2, 3)),
        ('{ a = 1, "b" : 2\n (x) = 3\n in = 4 }', {"a": 1, "b": 2, "X": 3, "in": 4}),
        ("1 + 2 * 3 - 4 / 2", 5),
        ("(1 +\n 2) * 3", 9),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("1 / 4", 0.25),
        ('"2" + 1', 3),
        ('1 == "1"', False),
        ("1 == true", False),
        ("[1, {a = 2}] == [1, {a = 2}]", True),
        ("1 < 2 && !(2 >= 3) || false", True),
        ('x == "X" ? "yes" : "no"', "yes"),
        ('true ? 1 : "a"', "1"),
        ("true ? 1 : nothing", 1),
        ("false ? 1 : true ? 2 : 3", 2),
        ("m.k.l", "deep"),
        ('m["k"].l', "deep"),
        ("l[1]", 20),
        ("l.0", 10),
        ("o[*].n", (1, 2)),
        ("o.*.n", (1, 2)),
        ("m[*].k.l", ("deep",)),
        ("null[*]", ()),
        ("[for v in l : v / 10]", (1, 2)),
        ("[for i, v in l : i + v if v > 10]", (21,)),
        ('[for k, v in {b = 1, a = 2} : "${k}${v}"]', ("a2", "b1")),
        ('{for v in ["a", "b"] : v => upper(v)}', {"a": "A", "b": "B"}),
        ('{for v in ["a", "ab"] : substr(v, 0, 1) => v...}', {"a": ("a", "ab")}),
        ("max([3, 7, 5]...)", 7),
        ('"${x}"', "X"),
        ('"${l}"', (10, 20)),
        ('"<${x}${1 + 1}>"', "<X2>"),
        ('"a ${~ x ~} b"', "aXb"),
        ('"${upper("in${"ner"}")}"', "INNER"),
        ('"%{ if x == "X" }yes%{ else }no%{ endif }"', "yes"),
        ('"%{ for v in l ~} ${v}, %{~ endfor }."', "10,20,."),
        ('"%{ for i, v in l }${i}:${v} %{ endfor }"', "0:10 1:20 "),
        ('<<EOT\n  a ${x} \\n "q"\nEOT', '  a X \\n "q"\n'),
        ("<<-EOT\n    a\n\n      ${x}\n    EOT", "a\n\n  X\n"),
        ("<<-EOT\n    plain\n      more\n    EOT", "plain\n  more\n"),
        ("<<EOT\nRUN <<EOF\necho $${HOME} %%{x}\nEOF\nEOT", "RUN <<EOF\necho ${HOME} %{x}\nEOF\n"),
        ("<<EOT\n%{ for v in l ~}\n- ${v}\n%{ endfor ~}\nEOT", "- 10\n- 20\n"),
        ("upper(<<EOT\nx\nEOT\n)", "X\n"),
        ('try(nothing, "fallback")', "fallback"),
        ("can(m.k)", True),
        ("can(m.none)", False),
        ('convert("3", number)', 3),
        ('convert(["b", "a", "b"], set(string))', ("a", "b")),
        ('convert({a = "1"}, object({a = number, b = optional(string)}))', {"a": 1, "b": None}),
    ],
)
def test_an_expression_has_its_value(text: str, expected: Value) -> None:
    found = value(text, x="X", l=(10, 20), m={"k": {"l": "deep"}}, o=({"n": 1}, {"n": 2}))
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("a = = 3\n", "1:5", 'unexpected "="'),
        ('target "a" {\n  b = [1, 2\n}\n', "3:1", "unexpected"),
        ('target "a" {\n', "1:13", "unexpected end of the file"),
        ('a = "\\q"\n', "1:6", "not a valid escape sequence"),
        ('a = "%{ if true }x"\n', "1:6", "not closed by %{ endif }"),
        ('a = "x%{ endfor }"\n', "1:7", "without its beginning"),
        ("t {\n  a = 1\n  b = 2\n  a = 3\n}\n", "4:3", "already set at line 2"),
        ('t "x${1}" {\n}\n', "1:3", "label"),
        ("a = 1 b = 2\n", "1:7", "must end with a newline"),
        ("t { a = 1 }  u {}\n", "1:14", "must end with a newline"),
        ("t { a = 1 /* c */ b = 2 }\n", "1:19", "must end with a newline"),
        ("a = <<EOT\nfine\nbad ${1 +}\nEOT\n", "3:10", "unexpected"),
        ("a = " + "[" * 3000 + "]" * 3000, "", "nested too deeply"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text: str, place: str, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        hcl.parse(text, name="f.hcl")
    assert what in caught.value.message
    assert caught.value.message.startswith(f"f.hcl:{place}")
    assert not place or f">>> {text.splitlines()[int(place.split(':')[0]) - 1]}" in caught.value.excerpt


@pytest.mark.parametrize(
    ("text", "column", "what"),
    [
        ("1 + nothing", 9, "no nothing"),
        ('"a" + 1', 5, 'a number is required, not "a"'),
        ("1 / 0", 5, "division by zero"),
        ("m.oter", 7, "there is no element"),
        ("l[5]", 7, "there is no element 5"),
        ('uper("x")', 5, 'there is no function named "uper"'),
        ('upper("x", "y")', 5, "upper takes 1 argument, not 2"),
        ('"a${null}"', 9, "null cannot be part of a text"),
        ('"a${l}"', 9, "a string is required, not list"),
        ("true ? 1 : [1]", 5, "must have one type"),
        ("{for v in [1, 1] : v => v}", 24, 'two elements have the key "1"'),
        ("[for v in 3 : v]", 15, "a list or map is required"),
        ('convert("x", number)', 5, "a number is required"),
        ('convert("x", nonsense)', 18, "this is not a type"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_its_place(text: str, column: int, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        value(text, l=(1,), m={"other": 1})
    assert caught.value.message.startswith(f"f.hcl:1:{column}: ")
    assert what in caught.value.message


def test_a_hint_names_what_was_meant() -> None:
    with pytest.raises(BakeError) as caught:
        value("m.oter", m={"other": 1})
    assert caught.value.hint == "did you mean other?"


def test_blocks_have_labels_and_bodies() -> None:
    body = hcl.parse('# c\n/* d\n*/\na = 1\nt "x" y {\n in = 1\n n { }\n}\n', name="f.hcl")
    assert [one.name for one in body.attributes] == ["a"]
    (block,) = body.blocks
    assert (block.kind, block.labels) == ("t", ("x", "y"))
    assert [one.name for one in block.body.attributes] == ["in"]
    assert [one.kind for one in block.body.blocks] == ["n"]


def test_line_ends_may_be_windows_s() -> None:
    body = hcl.parse('a = 1\r\nb = "x"\r\nc = <<EOT\r\nx\r\ny ${1}\r\nEOT\r\nt {\r\n}\r\n', name="f.hcl")
    values = [evaluate.evaluate(one.value, evaluate.Scope(Names())) for one in body.attributes]
    assert values == [1, "x", "x\ny 1\n"]


def test_a_thousand_terms_are_no_depth() -> None:
    assert value(" + ".join(["1"] * 5000)) == 5000


numbers = st.integers(-1000, 1000)
expressions = st.recursive(
    numbers.map(lambda n: (str(n) if n >= 0 else f"({n})", n)),
    lambda inner: st.tuples(inner, st.sampled_from("+-*"), inner).map(
        lambda t: (
            f"({t[0][0]} {t[1]} {t[2][0]})",
            {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}[t[1]](t[0][1], t[2][1]),
        )
    ),
    max_leaves=12,
)


@given(expressions)
def test_arithmetic_is_python_s(pair: tuple[str, int]) -> None:
    assert value(pair[0]) == pair[1]


texts = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\r\x00"), max_size=60)


@given(texts)
@example("${")
@example("%{ if }%%{$${~")
def test_any_text_can_be_quoted(text: str) -> None:
    quoted = json.dumps(text, ensure_ascii=False).replace("\\b", "\\u0008").replace("\\f", "\\u000c")
    assert value(quoted.replace("${", "$${").replace("%{", "%%{")) == text


@given(st.lists(texts.filter(lambda one: "EOT" not in one), max_size=4), texts)
def test_any_text_can_be_a_template_around_values(around: list[str], inner: str) -> None:
    """In a heredoc nothing but the two openings means anything."""
    escaped = [one.replace("${", "$${").replace("%{", "%%{").rstrip("$%") for one in around]
    wanted = [one.rstrip("$%") for one in around]
    found = value(f"<<EOT\n{'${x}'.join(escaped)}\nEOT", x=inner)
    expected = inner.join(wanted) + "\n"
    assert found == expected


@given(st.text(st.sampled_from('ab"${}%~[](){}=\n\\<-E.,:?!+*#/ 1'), max_size=40))
def test_no_text_breaks_the_reader(text: str) -> None:
    try:
        body = hcl.parse(text, name="f.hcl")
    except BakeError:
        return
    for one in body.attributes:
        try:
            evaluate.evaluate(one.value, evaluate.Scope(Names()))
        except BakeError:
            pass

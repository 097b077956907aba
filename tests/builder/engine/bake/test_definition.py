"""Variables, functions, matrices and merging: what several files mean together, and what is refused."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from builder.engine.bake import files
from builder.engine.bake.definition import Ambient, Config
from builder.engine.bake.target import document
from builder.errors import BakeError


def config(*texts: str, env: Mapping[str, str] | None = None) -> Config:
    """What HCL texts (or JSON, which begins with a brace) define together."""
    given = env or {}
    ambient = Ambient(
        given.get,
        {"BAKE_CMD_CONTEXT": "cwd://", "BAKE_LOCAL_PLATFORM": "linux/amd64"},
        datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        home="/home/me",
        uuid=lambda: "11111111-2222-4333-8444-555555555555",
    )
    named = [files.BakeFile("f.json" if text.startswith("{") else "f.hcl", text) for text in texts]
    return files.config(named, ambient, given)


def targets(*texts: str, env: Mapping[str, str] | None = None) -> dict[str, dict[str, object]]:
    """The targets as --print writes them, before they are resolved."""
    found = config(*texts, env=env)
    made: dict[str, dict[str, object]] = json.loads(document((), found.targets))["target"]
    return made


def args(expression: str, *more: str, env: Mapping[str, str] | None = None) -> object:
    """The value of `expression` as a build argument."""
    made = targets(*more, f'target "t" {{ args = {{ A = {expression} }} }}', env=env)["t"].get("args", {})
    assert isinstance(made, dict)
    return made.get("A")


@pytest.mark.parametrize(
    ("variable", "env", "expected"),
    [
        ('default = "x"', {}, "x"),
        ('default = "x"', {"V": "y"}, "y"),
        ('default = "x"', {"V": ""}, ""),
        ("default = 3", {"V": "1.5"}, "1.5"),
        ("default = false", {"V": "1"}, "true"),
        ("", {}, ""),
        ("default = null", {"V": "y"}, "y"),
        ("default = null", {}, None),
        ("type = number", {"V": "3"}, "3"),
        ("type = number", {}, None),
        ("type = string\ndefault = 7", {}, "7"),
        ('type = list(string)\ndefault = ["a"]', {"V": 'b,"c,d"'}, None),
    ],
)
def test_a_variable_is_the_environment_s_or_its_default(
    variable: str, env: dict[str, str], expected: str | None
) -> None:
    text = 'join("|", V)' if "list" in variable else "V"
    assert args(text, f'variable "V" {{\n{variable}\n}}', env=env) == ("b|c,d" if "list" in variable else expected)


def test_structured_variables_are_given_as_json() -> None:
    text = 'variable "V" {\n type = object({a = number})\n default = {a = 1}\n}'
    assert args("V.a", text) == "1"
    assert args("V.a", text, env={"V_JSON": '{"a": 5}'}) == "5"


@pytest.mark.parametrize(
    ("variable", "env", "what"),
    [
        ("default = 3", {"V": "x"}, "does not fit"),
        ("default = true", {"V": "maybe"}, '"maybe" is not a bool'),
        ("default = [1]", {"V": "x"}, "declare its type"),
        ("type = number", {"V": "x"}, "a number is required"),
        ('type = number\ndefault = "x"', {}, "invalid default value for variable V"),
        ("type = map(string)", {"V": "x"}, "_JSON"),
        ("type = map(string)", {"V_JSON": "{"}, "invalid JSON"),
        ("defualt = 3", {}, "did you mean default?"),
        (
            'default = 3\nvalidation {\ncondition = V > 5\nerror_message = "V is ${V}"\n}',
            {},
            "validation failed: V is 3",
        ),
    ],
)
def test_what_a_variable_cannot_be_is_refused(variable: str, env: dict[str, str], what: str) -> None:
    with pytest.raises(BakeError) as caught:
        config(f'variable "V" {{\n{variable}\n}}', env=env)
    assert what in f"{caught.value.message} {caught.value.hint}"


def test_the_environment_changes_only_declared_variables() -> None:
    assert args("A", "A = 1", env={"A": "2"}) == "1"


def test_builtins_and_the_world_are_given() -> None:
    assert args("BAKE_CMD_CONTEXT") == "cwd://"
    assert args("timestamp()") == "2026-01-02T03:04:05Z"
    assert args("homedir()") == "/home/me"
    assert args("uuidv4()") == "11111111-2222-4333-8444-555555555555"


def test_functions_see_their_parameters_and_the_files_variables() -> None:
    text = """
    variable "TWO" { default = 2 }
    function "times" { params = [x]
      result = x * TWO }
    function "all" { params = [sep]
      variadic_params = rest
      result = join(sep, rest) }
    function "four" { params = [x]
      result = times(times(x)) }
    """
    assert args("four(3)", text) == "12"
    assert args('all("-", "a", "b")', text) == "a-b"


def test_later_files_win_attribute_by_attribute() -> None:
    made = targets(
        'target "a" {\n args = {X = 1, Y = 1}\n tags = ["one"]\n cache-from = ["c1"]\n context = "x"\n}',
        '{"target": {"a": {"args": {"Y": "2", "Z": null}, "tags": ["two"], "cache-from": ["c2"]}}}',
    )
    assert made["a"] == {
        "context": "x",
        "args": {"X": "1", "Y": "2"},
        "tags": ["two"],
        "cache-from": [{"ref": "c1", "type": "registry"}, {"ref": "c2", "type": "registry"}],
    }


def test_json_has_templates_functions_and_variables() -> None:
    text = """{"variable": {"V": {"default": "x"}},
      "function": {"f": {"params": ["a"], "result": "${upper(a)}!"}},
      "group": {"default": {"targets": ["t"]}},
      "target": {"t": {"tags": ["${f(V)}", "$${V} \\u00e9"], "args": {"${V}": 1, "b": true, "c": null}}}}"""
    assert targets(text)["t"] == {"args": {"b": "true", "x": "1"}, "tags": ["X!", "${V} é"]}


def test_targets_may_name_each_other_s_attributes() -> None:
    made = targets(
        """
        target "a" { args = { X = target.b.args.Y, N = length(group.g.targets) } }
        target "b" { args = { Y = upper(target.c.context) } }
        target "c" { context = "dir" }
        group "g" { targets = ["a", "b"] }
        """
    )
    assert made["a"]["args"] == {"N": "2", "X": "DIR"}


def test_a_matrix_makes_a_target_for_every_combination() -> None:
    found = config(
        """
        target "app" {
          name = "app-${tgt}-${replace(item.v, ".", "-")}"
          matrix = { tgt = ["a", "b"], item = [{v = "1.0"}, {v = "2.0"}] }
          target = tgt
          args = { V = item.v }
        }
        """
    )
    assert [one.name for one in found.targets] == ["app-a-1-0", "app-a-2-0", "app-b-1-0", "app-b-2-0"]
    assert [one.map("args")["V"] for one in found.targets] == ["1.0", "2.0", "1.0", "2.0"]
    (group,) = found.groups
    assert (group.name, group.targets) == ("app", tuple(one.name for one in found.targets))


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ('target "t" {\n tag = []\n}', "2:2", "did you mean tags?"),
        ('target "t" {\n tags = "x"\n}', "2:9", "unsuitable value for tags: a list is required"),
        ('target "t" {\n args = { A = VV }\n}\nvariable "V" { default = 1 }', "2:15", 'no variable named "VV"'),
        ('target "t" {\n output = ["dest=x"]\n}', "2:11", "type is required"),
        ('target "t" {\n secret = ["id=x,nonsense=y"]\n}', "2:11", "unexpected key 'nonsense'"),
        ('target "t" {\n pull = 3\n}', "2:9", "a bool is required"),
        ('target "t" {\n args { A = 1 }\n}', "2:2", "write it as an argument"),
        ('target "t" {\n policy = []\n}', "2:2", "policies are not supported"),
        ('target "a b" {}', "1:8", "invalid name"),
        ('target "a" "b" {}', "1:12", "has one name"),
        ('targt "a" {}', "1:7", "did you mean target?"),
        ('group "g" {}', "1:7", "targets"),
        ('group "g" {\n targets = ["a"]\n matrix = {}\n}', "3:2", "not expected here"),
        ('target "t" {\n name = "x"\n}', "2:2", "name requires matrix"),
        ('target "t" {\n matrix = { a = ["x", "y"] }\n}', "2:2", 'duplicate name "t"'),
        ('target "t" {\n matrix = { a = "x" }\n name = "t"\n}', "2:11", "must be a list"),
        ("a = b\nb = c\nc = a", "3:5", "variable cycle not allowed for a (a -> b -> c -> a)"),
        ('function "f" {\n params = [x]\n result = f(x)\n}\na = f(1)', "1:10", "function cycle"),
        ('function "f" {\n result = 1\n}', "1:10", '"params" is required'),
        (
            'target "a" {\n context = target.b.context\n}\ntarget "b" {\n context = target.a.context\n}',
            "",
            "reference cycle",
        ),
        ('{"target": {"t": {"tags": ["${VV}"]}}}', "1:28", 'no variable named "VV"'),
        ('{"target": {"t": }}', "1:18", "a JSON value is required"),
        ('{"a": 1} x', "1:10", "nothing may follow"),
        ('{"a": "\n"}', "1:8", "Invalid control character"),
    ],
)
def test_what_files_cannot_say_is_refused_with_its_place(text: str, place: str, what: str) -> None:
    with pytest.raises(BakeError) as caught:
        config(text)
    assert f":{place}" in caught.value.message
    assert what in f"{caught.value.message} {caught.value.hint}"
    assert ">>>" in caught.value.excerpt


def test_variables_are_listed_with_their_values() -> None:
    text = 'variable "B" {\n description = "the b"\n type = list(number)\n default = [1]\n}\n'
    text += 'variable "A" { default = null }'
    listed = {one.name: (one.value, one.type, one.description) for one in config(text).variables}
    assert listed == {"A": (None, "", ""), "B": ("[1]", "list(number)", "the b")}

"""Templates give what Go's text/template gives for docker's formats."""

import pytest

from builder.cli.gotemplate import Template, TemplateError

DATA = {
    "Id": "abc",
    "Names": ["/a", "/b"],
    "State": {"Pid": 3, "Running": True},
    "Labels": {"com.example": "x"},
    "Label": lambda key: f"<{key}>",
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("{{.Id}} {{.ID}}", "abc abc"),
        ("{{json .State}}", '{"Pid":3,"Running":true}'),
        ("{{range $i, $n := .Names}}{{if $i}}, {{end}}{{$n}}{{end}}", "/a, /b"),
        ('{{index .Labels "com.example"}}{{index .Labels "no"}}', "x"),
        ('{{.Label "k"}}', "<k>"),
        ("{{with .State}}{{.Pid}}{{else}}no{{end}}", "3"),
        ('{{if eq .Id "x"}}1{{else if .State.Running}}2{{else}}3{{end}}', "2"),
        ('{{printf "%-5s|%3d|%q" .Id 3 "x"}}', 'abc  |  3|"x"'),
        ('{{upper .Id | printf "%s-%s" "a"}}', "a-ABC"),
        ('a {{- " b " -}} c', "a b c"),
        ('{{join .Names ","}}', "/a,/b"),
        ("{{.State}}", "map[Pid:3 Running:true]"),
        ("{{range .Names}}{{println .}}{{end}}", "/a\n/b\n"),
        ('{{"}}"}}', "}}"),
        ("{{$x := 3}}{{$x}}{{$.Id}}", "3abc"),
        ("{{not .State.Running}} {{and .Id .Names}}", "false [/a /b]"),
        ("{{.Nothing}}", "<no value>"),
        ("{{/* silence */}}x", "x"),
        ('{{range .Names}}{{if eq . "/b"}}{{break}}{{end}}{{.}}{{end}}', "/a"),
        ("{{(index .Names 1)}} {{len .Names}}", "/b 2"),
    ],
)
def test_formats(text: str, result: str) -> None:
    assert Template(text).render(DATA) == result


@pytest.mark.parametrize(
    "text",
    [
        "{{",
        "{{.Id",
        "{{end}}",
        "{{if .Id}}x",
        "{{nope .Id}}",
        "{{.Nope}}",
        "{{if}}",
        "{{break}}",
        "{{.Id 3}}",
        "{{else}}",
    ],
)
def test_what_is_wrong_is_a_template_error(text: str) -> None:
    with pytest.raises(TemplateError):
        Template(text).render(DATA)

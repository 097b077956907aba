"""Lists as docker prints them: tables, `--format` templates, JSON lines, and bare ids.

A row maps field names (docker's: ID, Names, …) to strings, or to functions for fields that take an argument
(`.Label "k"`).  The usual table needs no template and so no grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from builder.cli.harmless import harmless

Row = Mapping[str, "str | Callable[..., object]"]

_PADDING = 3
_LEAST = 10  # docker's tables: no column narrower than this, its padding included


class Table:
    """How one kind of row is shown: `headers` by field, and the fields of the usual table in order."""

    __slots__ = ("headers", "usual")

    def __init__(self, usual: Sequence[str], headers: Mapping[str, str]) -> None:
        self.usual = tuple(usual)
        self.headers = dict(headers)

    def show(self, rows: Iterable[Row], out: Callable[[str], object], *, format: str = "") -> None:
        """Print `rows`: `format` is "" or "table" for the usual table, "json", a template, or "table TEMPLATE"."""
        if format in ("", "table"):
            cells = [[harmless(str(row[field])) for field in self.usual] for row in rows]
            for line in aligned([[self.headers[field] for field in self.usual], *cells]):
                out(line)
            return
        from builder.cli import gotemplate

        if format == "json":
            for row in rows:
                out(gotemplate.to_json(gotemplate.Record(row)))
            return
        with_header = format.startswith("table ")
        template = gotemplate.Template(unescaped(format.removeprefix("table ") if with_header else format))
        if not with_header:
            for row in rows:
                out(template.render(gotemplate.Record(row)))
            return
        names: dict[str, object] = dict(self.headers)
        # a field with an argument is headed by the argument: {{.Label "com.example"}}
        names["Label"] = lambda key: key
        lines = [template.render(names), *(template.render(gotemplate.Record(row)) for row in rows)]
        for line in aligned([line.split("\t") for line in lines]):
            out(line)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines; every column but a row's last as wide as its widest cell and the padding."""
    widths: dict[int, int] = {}
    for row in rows:
        for at, cell in enumerate(row[:-1]):
            widths[at] = max(widths.get(at, _LEAST), len(cell) + _PADDING)
    return [
        "".join([*(cell.ljust(widths[at]) for at, cell in enumerate(row[:-1])), row[-1] if row else ""]) for row in rows
    ]


def unescaped(format: str) -> str:
    r"""A format in which the two characters `\t` and `\n` stand for tab and new line, as docker has it."""
    return format.replace("\\t", "\t").replace("\\n", "\n")

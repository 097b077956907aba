"""check: the checks of `build --check` on files alone, and their repair."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.cli.flags import Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.checks import CheckWish
    from builder.store import Store
    from parser.checks import Report
    from parser.checks.positions import Edit
    from parser.checks.rules import Finding
    from parser.source import Source

FORMATS = ("text", "json", "sarif")
CLEAN, FOUND, UNREADABLE = 0, 1, 2
"""Exit codes; the highest of all files counts."""


class _File(NamedTuple):
    """A file as it is told: after its repair, when it was repaired."""

    source: Source
    report: Report
    fixes: dict[Finding, tuple[Edit, ...]]
    fixed: int = 0


def check(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Check, repair if that is wished, tell; give the exit code."""
    from builder.cli import app
    from parser.errors import DockerfileError

    form = values.text("format")
    if form not in FORMATS:
        raise UsageError(f"--format: {form} is none of {', '.join(FORMATS)}")
    files: list[_File] = []
    code = CLEAN
    for place, dockerfile in _places(values, arguments):
        try:
            found = _check(cli, values, place, dockerfile)
        except DockerfileError as error:
            cli.say("\n".join(text for text in (error.excerpt(), f"ERROR: {error}") if text))
            code = UNREADABLE
            continue
        except app.reported() as error:
            cli.say(f"ERROR: {place}: {getattr(error, 'message', error)}")
            code = UNREADABLE
            continue
        except OSError as error:
            cli.say(f"ERROR: {error.filename or place}: {error.strerror}")
            code = UNREADABLE
            continue
        files.append(found)
        code = max(code, _code(found.report))
    _tell(cli, form, files, quiet=values.on("diff"))
    return code


def _places(values: Values, arguments: list[str]) -> list[tuple[str, str | None]]:
    """(context or file, another Dockerfile for that context)."""
    named = values.all("file")
    places = arguments or ["."]
    if named and len(places) > 1:
        raise UsageError("-f, --file: name one context with it, or the files alone")
    return [(places[0], name) for name in named] if named else [(place, None) for place in places]


def _check(cli: Cli, values: Values, place: str, dockerfile: str | None) -> _File:
    from builder.engine import checks
    from parser.checks.repairs import certain, repair

    checked = checks.check_file(
        place, _wish(cli, values), dockerfile=dockerfile, store=_store(cli), stdin=cli.raw_in(), cwd=cli.cwd
    )
    if not (values.on("fix") or values.on("diff")):
        return _File(checked.source, checked.report, certain(checked.source, checked.report))
    repaired = repair(checked.source, checked.around)
    if values.on("diff"):
        for line in _diff(checked.source, repaired.source):
            cli.out(line)
        return _File(checked.source, checked.report, {})
    if checked.path is None:
        raise UsageError("--fix: standard input cannot be changed; --diff shows what would be")
    if repaired.source.text != checked.source.text:
        checks.rewrite(checked, repaired.source.text)
    return _File(repaired.source, repaired.report, {}, repaired.fixed)


def _wish(cli: Cli, values: Values) -> CheckWish:
    from builder.engine.checks import CheckWish

    given = {}
    for text in values.all("build-arg"):
        name, equals, value = text.partition("=")
        inherited = value if equals else cli.env.get(name)
        if inherited is not None:
            given[name] = inherited
    return CheckWish(given, values.text("target"), values.text("platform"))


def _store(cli: Cli) -> Store | None:
    """The store, for what it knows of base images; it is not made for this."""
    from builder.errors import StoreError

    if not (cli.root / "lamina.db").is_file():
        return None
    try:
        return cli.engine.store
    except StoreError as error:
        cli.say(f"WARNING: nothing is known of base images: {error.message}")
        return None


def _code(report: Report) -> int:
    if not report.parsed:
        return UNREADABLE
    return FOUND if report.findings or report.error is not None else CLEAN


def _diff(before: Source, after: Source) -> Iterator[str]:
    from difflib import unified_diff

    old, new = (re.findall(r"[^\n]*\n|[^\n]+", one.text) for one in (before, after))
    name = before.name.lstrip("/")
    for line in unified_diff(old, new, f"a/{name}", f"b/{name}"):
        yield line.removesuffix("\n").encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"


def _tell(cli: Cli, form: str, files: Sequence[_File], *, quiet: bool) -> None:
    if form == "json":
        cli.out(json.dumps({"files": [_document(one) for one in files]}, indent=2, ensure_ascii=False))
    elif form == "sarif":
        from builder.cli import sarif

        log = sarif.log([(one.source, one.report.findings, one.fixes, one.report.error) for one in files])
        cli.out(json.dumps(log, indent=2))
    else:
        for one in files:
            _lines(cli, one, quiet=quiet)


def _lines(cli: Cli, file: _File, *, quiet: bool) -> None:
    report, name = file.report, file.source.name
    for finding in () if quiet else report.findings:
        start = finding.span.start
        cli.out(f"{name}:{start.line}:{start.column}: {finding.rule.name}: {finding.detail}")
        cli.out(file.source.excerpt(finding.span, context=0))
    if report.error is not None:
        cli.say(report.error.excerpt())
        cli.say(f"ERROR: {report.error}")
    count, certain = len(report.findings), len(file.fixes)
    parts = [f"{count} finding{'' if count == 1 else 's'}"]
    if file.fixed:
        parts.append(f"{file.fixed} fixed")
    if certain:
        parts.append(f"{certain} of them can be fixed with --fix")
    cli.say(f"{name}: {', '.join(parts)}")


def _document(file: _File) -> dict[str, object]:
    findings = [
        {
            "rule": one.rule.name,
            "detail": one.detail,
            "description": one.rule.description,
            "url": one.rule.url,
            "line": one.span.start.line,
            "column": one.span.start.column,
            "endLine": one.span.end.line,
            "fixable": one in file.fixes,
        }
        for one in file.report.findings
    ]
    document: dict[str, object] = {"path": file.source.name, "findings": findings, "fixed": file.fixed}
    error = file.report.error
    if error is not None:
        place = {"line": error.span.start.line, "column": error.span.start.column} if error.span else {}
        document["error"] = {"message": error.message, **place}
    return document


COMMANDS = {
    "check": Command(
        "[OPTIONS] [PATH | FILE | -]...",
        "Check Dockerfiles without building them: a context's, or files. Of base images nothing is known but what the "
        "store has. Ends with 0 when there are no findings, 1 when there are, 2 when a file cannot be read or is no "
        "Dockerfile.",
        check,
        flags=(
            many("build-arg", "Set build-time variables", word="stringArray"),
            switch("diff", "Show what --fix would change, and change nothing"),
            many("file", "Name of the Dockerfile, for the context PATH; may be repeated", short="f", complete="file"),
            switch("fix", "Repair in place what has one certain repair; comments and layout stay"),
            Flag("format", "Output format (text, json, sarif)", default="text", complete="text json sarif"),
            Flag("platform", "Set target platform of the build"),
            Flag("target", "Check only what this stage needs (default: all stages)"),
        ),
        complete="file",
    )
}

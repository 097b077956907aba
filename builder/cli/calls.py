"""`build --call` and `--check`: what is asked of a build instead of building, in buildx's texts and JSON documents.

Results are data and go to stdout; why a build would fail goes to stderr. The value of the flag is
`METHOD[,format=json][,ignorestatus=true]`.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from builder.cli.flags import UsageError, closest
from builder.cli.harmless import harmless
from builder.cli.warnings import cited

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.builds import BuildWish
    from parser.checks import Report
    from parser.checks.outline import Outline, Target
    from parser.source import Source, Span

METHODS = ("build", "check", "outline", "targets")


class Call(NamedTuple):
    """What was asked for."""

    method: str
    json: bool = False
    ignore_status: bool = False


def parse(text: str) -> Call:
    """Read the value of --call. Raises UsageError."""
    method, as_json, ignore = "", False, False
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if not equals:
            if method:
                raise UsageError(f"invalid print value: {text}")
            method = field
        elif key == "format":
            as_json = value == "json"
        elif key == "ignorestatus":
            if value.lower() not in ("1", "t", "true", "0", "f", "false"):
                raise UsageError(f"invalid ignorestatus print value: {value}")
            ignore = value.lower() in ("1", "t", "true")
        else:
            raise UsageError(f"invalid print field: {field}")
    method = {"": "build", "lint": "check"}.get(method, method)
    if method not in METHODS:
        near = closest(method, METHODS)
        raise UsageError(f"--call: there is no method {method}; use {near or ', '.join(METHODS)}")
    return Call(method, as_json, ignore)


def run(cli: Cli, asked: BuildWish, call: Call, *, inline: BinaryIO | None = None) -> int:
    """Answer `call`, and give the exit code. `inline` is the Dockerfile instead of what stands on stdin."""
    from builder.engine import builds, checks

    stdin = inline or (cli.raw_in() if asked.source == "-" or asked.dockerfile == "-" else None)
    try:
        match call.method:
            case "check":
                return _check(cli, *checks.check(cli.engine, asked, stdin=stdin), call)
            case "outline":
                found, source = checks.outline(cli.engine, asked, stdin=stdin)
                _print(cli, call, outline_document(found, source), outline_text(found))
            case _:
                stages, source = checks.targets(cli.engine, asked, stdin=stdin)
                _print(cli, call, targets_document(stages, source), targets_text(stages))
    except builds.problems() as error:
        excerpt = getattr(error, "excerpt", "")
        _fail(cli, getattr(error, "message", str(error)), excerpt() if callable(excerpt) else excerpt)
        return 1
    return 0


def document(asked: BuildWish, call: Call, cli: Cli, *, inline: BinaryIO | None) -> tuple[dict[str, object], int]:
    """The answer to `call` as bake's document has it, and the exit code."""
    from builder.engine import builds, checks

    try:
        if call.method == "check":
            report, source = checks.check(cli.engine, asked, stdin=inline)
            code = 1 if report.reason or (report.findings and not call.ignore_status) else 0
            return check_document(report, source), code
        if call.method == "outline":
            return outline_document(*checks.outline(cli.engine, asked, stdin=inline)), 0
        return targets_document(*checks.targets(cli.engine, asked, stdin=inline)), 0
    except builds.problems() as error:
        return {"error": getattr(error, "message", None) or str(error)}, 1


def _check(cli: Cli, report: Report, source: Source, call: Call) -> int:
    count = len(report.findings)
    if call.json:
        cli.out(json.dumps(check_document(report, source), indent=2, ensure_ascii=False))
    else:
        if count:
            cli.out(f"Check complete, {'1 warning has' if count == 1 else f'{count} warnings have'} been found!")
        elif not report.reason:
            cli.out("Check complete, no warnings found.")
        for line in check_text(report, source):
            cli.out(line)
    if report.reason:
        _fail(cli, report.reason, report.error.excerpt() if report.error is not None else "")
        return 1
    return 1 if count and not call.ignore_status else 0


def _fail(cli: Cli, message: str, excerpt: str) -> None:
    if excerpt:
        cli.say(harmless(excerpt.rstrip("\n")))
    cli.say(harmless(f"ERROR: failed to build: {message}"))


def _print(cli: Cli, call: Call, document: Mapping[str, object], lines: Iterator[str]) -> None:
    if call.json:
        cli.out(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for line in lines:
        cli.out(line.rstrip())


# as text


def check_text(report: Report, source: Source) -> Iterator[str]:
    """Each finding with its page and the lines that it is about."""
    for one in report.findings:
        yield ""
        yield f"WARNING: {one.rule.name}" + (f" - {one.rule.url}" if one.rule.url else "")
        yield one.detail
        yield cited(source, one.span)


def outline_text(found: Outline) -> Iterator[str]:
    """Tables: the target, its arguments, secrets and agents."""
    if found.name or found.description:
        rows = [["TARGET:", found.name or "(default)"]]
        if found.description:
            rows.append(["DESCRIPTION:", found.description])
        yield from _columns(rows, 1)
        yield ""
    if found.args:
        rows = [["BUILD ARG", "VALUE", "DESCRIPTION"]]
        yield from _columns([*rows, *([one.name, one.value, one.description] for one in found.args)], 3)
        yield ""
    for title, mounts in (("SECRET", found.secrets), ("SSH", found.ssh)):
        if mounts:
            rows = [[title, "REQUIRED"], *([one.name, "true" if one.required else ""] for one in mounts)]
            yield from _columns(rows, 3)
            yield ""


def targets_text(stages: Sequence[Target]) -> Iterator[str]:
    """A table: the names that --target takes, and their descriptions."""
    rows = [["TARGET", "DESCRIPTION"]]
    for stage in stages:
        default = "(default)" if stage.default else ""
        rows.append([f"{stage.name} {default}".strip(), stage.description])
    return _columns(rows, 1)


def _columns(rows: Sequence[Sequence[str]], padding: int) -> Iterator[str]:
    widths = [max(map(len, column)) + padding for column in zip(*rows, strict=True)]
    for row in rows:
        *cells, last = row
        yield "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=False)) + last


# as documents


def check_document(report: Report, source: Source) -> dict[str, object]:
    """The result of `frontend.lint`."""
    warnings = [
        _without_empty(
            ruleName=one.rule.name,
            description=one.rule.description,
            url=one.rule.url,
            detail=one.detail,
            location=_location(one.span),
        )
        for one in report.findings
    ]
    data = {"filename": source.name, "language": "Dockerfile", "data": _data(source)}
    document: dict[str, object] = {"warnings": warnings, "sources": [data]}
    if report.reason:
        span = report.error.span if report.error is not None else None
        document["buildError"] = {"message": report.reason, "location": _location(span) if span else {}}
    return document


def outline_document(found: Outline, source: Source) -> dict[str, object]:
    """The result of `frontend.outline`."""
    return _without_empty(
        name=found.name,
        description=found.description,
        args=[
            _without_empty(name=one.name, description=one.description, value=one.value, location=_location(one.span))
            for one in found.args
        ],
        secrets=[
            _without_empty(name=one.name, required=one.required, location=_location(one.span)) for one in found.secrets
        ],
        ssh=[_without_empty(name=one.name, required=one.required, location=_location(one.span)) for one in found.ssh],
        sources=[_data(source)],
    )


def targets_document(stages: Sequence[Target], source: Source) -> dict[str, object]:
    """The result of `frontend.targets`."""
    listed = [
        _without_empty(
            name=one.name,
            default=one.default,
            description=one.description,
            base=one.base,
            platform=one.platform,
            location=_location(one.span),
        )
        for one in stages
    ]
    return {"targets": listed, "sources": [_data(source)]}


def _location(span: Span) -> dict[str, object]:
    return {"ranges": [{"start": {"line": span.start.line}, "end": {"line": span.end.line}}]}


def _data(source: Source) -> str:
    return b64encode(source.text.encode("utf-8", "surrogateescape")).decode("ascii")


def _without_empty(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value}

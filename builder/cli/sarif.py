"""Findings as a SARIF 2.1.0 log: one run, one result for each finding, with its repair where there is one.

The standard: https://docs.oasis-open.org/sarif/sarif/v2.1.0/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from builder import VERSION
from parser.checks import RULES

if TYPE_CHECKING:
    from parser.checks import Finding
    from parser.checks.positions import Edit
    from parser.errors import DockerfileError
    from parser.source import Source, Span

_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
Fixes = Mapping["Finding", tuple["Edit", ...]]


def log(files: Sequence[tuple[Source, Sequence[Finding], Fixes, DockerfileError | None]]) -> dict[str, object]:
    """The document. `files` has for each its source, findings, repairs, and why a build would fail."""
    notifications = [
        {"level": "error", "message": {"text": str(error)}, "locations": [_location(source, error.span)]}
        for source, _, _, error in files
        if error is not None
    ]
    invocation: dict[str, object] = {"executionSuccessful": not notifications}
    if notifications:
        invocation["toolExecutionNotifications"] = notifications
    run = {
        "tool": {
            "driver": {"name": "lamina", "version": VERSION, "rules": [_rule(number) for number in range(len(RULES))]}
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [invocation],
        "results": [
            _result(source, finding, fixes.get(finding, ()))
            for source, findings, fixes, _ in files
            for finding in findings
        ],
    }
    return {"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}


def _rule(number: int) -> dict[str, object]:
    rule = RULES[number]
    described: dict[str, object] = {
        "id": rule.name,
        "shortDescription": {"text": rule.description},
        "defaultConfiguration": {"level": "warning", "enabled": not rule.experimental},
    }
    if rule.url:
        described["helpUri"] = rule.url
    return described


def _result(source: Source, finding: Finding, edits: Sequence[Edit]) -> dict[str, object]:
    result: dict[str, object] = {
        "ruleId": finding.rule.name,
        "ruleIndex": RULES.index(finding.rule),
        "level": "warning",
        "message": {"text": finding.detail},
        "locations": [_location(source, finding.span)],
    }
    if edits:
        replacements = [
            {
                "deletedRegion": {"charOffset": edit.start, "charLength": edit.end - edit.start},
                "insertedContent": {"text": edit.text},
            }
            for edit in edits
        ]
        change = {"artifactLocation": {"uri": _uri(source)}, "replacements": replacements}
        result["fixes"] = [{"artifactChanges": [change]}]
    return result


def _location(source: Source, span: Span | None) -> dict[str, object]:
    place: dict[str, object] = {"artifactLocation": {"uri": _uri(source)}}
    if span is not None:
        place["region"] = {
            "startLine": span.start.line,
            "startColumn": span.start.column,
            "endLine": span.end.line,
            "endColumn": max(span.end.column, len(source.line(span.end.line)) + 1),
        }
    return {"physicalLocation": place}


def _uri(source: Source) -> str:
    path = Path(source.name)
    return path.as_uri() if path.is_absolute() else quote(path.as_posix().encode("utf-8", "surrogateescape"))

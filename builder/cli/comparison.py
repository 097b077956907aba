"""Shows what makes two images different: for people, for programs, and for a pull request.

Pure: a value in, text out. Names, values and versions are the images' own words: none of them can begin a line, or be
markup in a comment under somebody's name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping

from builder.cli import units
from builder.cli.harmless import harmless, in_line
from builder.insight.compare import Comparison, FileChange, Kind, PackageChange

_MARK = {Kind.ADDED: "+", Kind.REMOVED: "-", Kind.CHANGED: "~"}
_LETTER = {Kind.ADDED: "A", Kind.REMOVED: "D", Kind.CHANGED: "C"}
MAX_ROWS = 200
"""Files that the Markdown form lists: a comment on a pull request has a length limit."""
MAX_CELL = 400
"""Letters of one value there."""


def text(found: Comparison) -> str:
    """For a terminal: what matters first, all files last."""
    lines = [
        f"{found.before.name} → {found.after.name}",
        f"layers: {len(found.before.layers)} → {len(found.after.layers)}, {found.shared_layers} shared",
        f"size: {_sizes(found.before.size, found.after.size)}",
    ]
    if found.same:
        lines.append("no difference in files, packages and config")
    if found.config:
        lines += ["", "Config:"]
        lines += [f"  {in_line(each.field)}: {_value(each.before)} → {_value(each.after)}" for each in found.config]
    if found.packages:
        lines += ["", f"Packages ({_counts(found.packages)}):"]
        lines += [
            f"  {_MARK[each.kind]} {each.ecosystem} {in_line(f'{each.name} {_versions(each)}')}"
            for each in found.packages
        ]
    if found.security:
        lines += ["", "Set-id bits and capabilities:"]
        lines += [f"  {_MARK[each.kind]} {in_line(each.path)}: {', '.join(each.what)}" for each in found.security]
    if found.files:
        lines += ["", f"Files ({_counts(found.files)}):"]
        lines += [f"  {_LETTER[each.kind]} {in_line(each.path + _detail(each))}" for each in found.files]
    return "\n".join(lines)


def markdown(found: Comparison) -> str:
    """For a comment on a pull request: tables, the files folded."""
    return "\n".join(_markdown(found))


def _markdown(found: Comparison) -> Iterator[str]:
    yield f"### `{found.before.name}` → `{found.after.name}`"
    yield ""
    yield "| | before | after |"
    yield "|---|---|---|"
    yield f"| size | {units.size(found.before.size)} | {units.size(found.after.size)} ({_delta(found)}) |"
    yield f"| layers | {len(found.before.layers)} | {len(found.after.layers)} ({found.shared_layers} shared) |"
    if found.same:
        yield "\nNo difference in files, packages and config."
    if found.config:
        yield "\n| config | before | after |\n|---|---|---|"
        for change in found.config:
            yield f"| {_cell(change.field)} | {_cell(change.before)} | {_cell(change.after)} |"
    if found.packages:
        yield f"\n| package ({_counts(found.packages)}) | before | after |\n|---|---|---|"
        for package in found.packages:
            name = f"{package.ecosystem} {package.name}"
            yield f"| {_cell(name)} | {_cell(package.before or None)} | {_cell(package.after or None)} |"
    if found.security:
        yield "\n**Set-id bits and capabilities**\n"
        for file in found.security:
            yield f"- {file.kind} {_cell(file.path)}: {', '.join(file.what)}"
    if found.files:
        yield f"\n<details><summary>Files: {_counts(found.files)}</summary>\n\n| | path | |\n|---|---|---|"
        for file in found.files[:MAX_ROWS]:
            yield f"| {_LETTER[file.kind]} | {_cell(file.path)} | {_cell(_detail(file).strip() or None)} |"
        if len(found.files) > MAX_ROWS:
            yield f"\n…and {len(found.files) - MAX_ROWS} more"
        yield "\n</details>"


def as_json(found: Comparison) -> str:
    """For programs: everything, sizes in bytes."""

    def file(change: FileChange) -> Mapping[str, object]:
        return {
            "kind": change.kind,
            "path": change.path,
            "what": list(change.what),
            "sizeBefore": change.before,
            "sizeAfter": change.after,
        }

    document = {
        "before": {"name": found.before.name, "size": found.before.size, "layers": list(found.before.layers)},
        "after": {"name": found.after.name, "size": found.after.size, "layers": list(found.after.layers)},
        "sharedLayers": found.shared_layers,
        "config": [{"field": each.field, "before": each.before, "after": each.after} for each in found.config],
        "packages": [
            {
                "kind": each.kind,
                "ecosystem": each.ecosystem,
                "name": each.name,
                "before": each.before or None,
                "after": each.after or None,
            }
            for each in found.packages
        ],
        "security": [file(each) for each in found.security],
        "files": [file(each) for each in found.files],
    }
    # Half a letter stands for a byte of a name that is no UTF-8.
    return harmless(json.dumps(document, indent=2, ensure_ascii=False)).encode(errors="backslashreplace").decode()


RENDERERS: Mapping[str, Callable[[Comparison], str]] = {"text": text, "json": as_json, "markdown": markdown}
"""By the word that the user gives with --format."""


def _sizes(before: int, after: int) -> str:
    return f"{units.size(before)} → {units.size(after)}"


def _delta(found: Comparison) -> str:
    delta = found.after.size - found.before.size
    return f"{'+' if delta >= 0 else '-'}{units.size(abs(delta))}"


def _counts(changes: tuple[FileChange, ...] | tuple[PackageChange, ...]) -> str:
    counts = {kind: sum(each.kind is kind for each in changes) for kind in Kind}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def _versions(change: PackageChange) -> str:
    return f"{change.before} → {change.after}" if change.before and change.after else change.before or change.after


def _value(value: str | None) -> str:
    return "(not set)" if value is None else in_line(value)


def _detail(change: FileChange) -> str:
    if change.kind is Kind.CHANGED:
        grown = change.before != change.after and change.before is not None and change.after is not None
        sizes = f" ({_sizes(change.before or 0, change.after or 0)})" if grown else ""
        return f"  {', '.join(change.what)}{sizes}"
    size = change.after if change.kind is Kind.ADDED else change.before
    notable = [each for each in change.what if each not in ("file", "directory")]
    detail = ", ".join([*notable, *([units.size(size)] if size else [])])
    return f"  {detail}" if detail else ""


def _cell(value: str | None) -> str:
    """A value in a table's cell, as code. What could end the cell or the code is written as HTML has it, for which
    nothing in the value is markup."""
    if not value:
        return ""
    flat = in_line(value)
    if len(flat) > MAX_CELL:
        flat = flat[:MAX_CELL] + "…"
    if not _ENDS.intersection(flat):
        return f"`{flat}`"
    safe = (each if each.isalnum() or each == " " or not each.isascii() else f"&#{ord(each)};" for each in flat)
    return f"<code>{''.join(safe)}</code>"


_ENDS = frozenset("`|\\")

"""imagetools create and inspect: images in registries, without pulling them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from builder.cli.flags import Command, Flag, Values, many, switch
from builder.cli.harmless import harmless
from builder.cli.progress import PROGRESS, progress_mode
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from builder.cli.context import Cli
    from builder.engine.imagetools import Source
    from builder.oci.descriptors import Descriptor


def create(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make an index of what others are or list, and push it, or show it."""
    from builder.cli.build_view import pull_view
    from builder.engine import imagetools
    from builder.engine.options.outputs import parse_annotations

    document = imagetools.create(
        cli.engine,
        cli.env,
        arguments,
        values.all("tag"),
        pull_view(cli, progress_mode(cli, values)),
        append=values.on("append"),
        annotations=parse_annotations(values.all("annotation")),
        prefer_index=values.on("prefer-index"),
        push=not values.on("dry-run"),
    )
    if values.on("dry-run"):
        cli.out(harmless(document.decode()))
    return 0


def inspect(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Show what a name means."""
    from builder.engine import imagetools

    format = values.text("format")
    if values.on("raw") and format:
        cli.say("Error: format and raw cannot be used together")
        return 1
    template = None
    if format and format != "{{.Manifest}}":
        from builder.cli import gotemplate

        template = gotemplate.Template(format)
    source, details = imagetools.inspect(cli.env, arguments[0], whole=template is not None)
    if values.on("raw"):
        cli.raw_out().write(source.found.data)  # without a newline: these bytes have the digest
    elif template is not None:
        data = {"Name": arguments[0], "Manifest": _manifest(source), **details}
        document = {"name": arguments[0], "manifest": data["Manifest"], "image": details["Image"]}
        cli.out(template.render(data, json=lambda value: _indented(document if value is data else value)))
    else:
        for line in _lines(source):
            cli.out(harmless(line))
    return 0


def _indented(value: object) -> str:
    return harmless(json.dumps(value, indent=2, ensure_ascii=False))


def _manifest(source: Source) -> dict[str, Any]:
    """A manifest as what points at it; an index with what it lists."""
    found, index = source.found.descriptor, source.index
    if index is None:
        return found.to_json()
    head = {"schemaVersion": 2, "mediaType": found.media_type, "digest": found.digest, "size": found.size}
    document: dict[str, Any] = head | {"manifests": [each.to_json() for each in index.manifests]}
    return document | ({"annotations": dict(index.annotations)} if index.annotations else {})


def _lines(source: Source) -> list[str]:
    found = source.found.descriptor
    head = [("Name:", str(source.reference)), ("MediaType:", found.media_type), ("Digest:", str(found.digest))]
    index = source.index
    if index is None:
        return _columns(head)
    lines, block = _columns([*head, ("", ""), ("Manifests:", "")]), list[tuple[str, str]]()
    for at, each in enumerate(index.manifests):
        block += [("", "")] * bool(at) + _entry(str(replace(source.reference, digest=each.digest)), each)
        if each.annotations:
            lines += _columns([*block, ("Annotations:", "")], indent=2)
            lines += _columns([(f"{key}:", value) for key, value in sorted(each.annotations.items())], indent=4)
            block = []
    return lines + _columns(block, indent=2)


def _columns(rows: Sequence[tuple[str, str]], indent: int = 0) -> list[str]:
    """Rows as buildx aligns them, with a blank where a value is empty."""
    width = max((len(key) for key, _ in rows), default=0) + 1
    return [f"{'':{indent}}{key:{width}}{value}" for key, value in rows]


def _entry(name: str, each: Descriptor) -> list[tuple[str, str]]:
    rows = [("Name:", name), ("MediaType:", each.media_type)]
    if each.platform is not None:
        rows.append(("Platform:", str(each.platform)))
        rows += [("OSVersion:", each.platform.os_version)] * bool(each.platform.os_version)
        rows += [("OSFeatures:", ", ".join(each.platform.os_features))] * bool(each.platform.os_features)
    return rows + [("URLs:", ", ".join(each.urls))] * bool(each.urls)


_BUILDER = Flag("builder", "Override the configured builder instance", hidden=True)

COMMANDS = {
    "create": Command(
        "[OPTIONS] [SOURCE...]",
        "Create a new image based on source images",
        create,
        flags=(
            many("annotation", "Add annotation to the image: index:KEY=VALUE or manifest-descriptor:KEY=VALUE"),
            switch("append", "Append to existing manifest"),
            _BUILDER,
            switch("dry-run", "Show final image instead of pushing"),
            switch("prefer-index", "Of a single source make an index, not a copy of its manifest", default=True),
            PROGRESS,
            many("tag", "Set reference for new image", short="t"),
        ),
        arguments=(0, None),
        complete="image",
    ),
    "inspect": Command(
        "[OPTIONS] NAME",
        "Show details of an image in the registry",
        inspect,
        flags=(
            _BUILDER,
            Flag("format", "Format the output using the given Go template"),
            switch("raw", "Show original, unformatted JSON manifest"),
        ),
        arguments=(1, 1),
        complete="image",
    ),
}

"""The options of `build` that say what becomes of the result: -o, --load, --push, --annotation, files about it.

Loaded only by builds that use one of them.
"""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING

from builder.cli.flags import UsageError, Values
from builder.engine.options import outputs as notation
from builder.engine.options.outputs import STORE, Output, OutputType
from builder.engine.options.units import BOOLEANS
from runtime.values import replace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from builder.cli.context import Cli
    from builder.engine.builds import Built
    from builder.engine.options.outputs import Annotation
    from builder.pipeline.progress import BuildWarning

_FILES = (OutputType.LOCAL, OutputType.TAR, OutputType.CACHE_ONLY)
"""What makes no image."""


def outputs(cli: Cli, values: Values) -> tuple[Output, ...]:
    """What is asked for, checked against what is there.  Raises UsageError, InvalidInput."""
    asked = [notation.parse_output(text) for text in values.all("output") if text]
    if values.on("push") and not any(output.type is OutputType.REGISTRY for output in asked):
        asked.append(Output(OutputType.REGISTRY))
    if values.on("load") and not any(output.stored for output in asked):
        asked.append(STORE)
    if not asked:
        asked.append(STORE)
    annotations = notation.parse_annotations(values.all("annotation"))
    if annotations:
        asked = [_annotated(output, annotations) for output in asked]
    for output in asked:
        pushed = output.type is OutputType.REGISTRY
        if pushed and not output.names and not values.all("tag"):
            raise UsageError("tag is needed when pushing to registry")
        if output.stored and not pushed and output.annotations:
            raise UsageError(
                "annotations belong to a manifest, which the store has none of: "
                "use -o type=oci,dest=FILE or -o type=docker,dest=FILE, or --label"
            )
        if output.rewrite and not cli.env.get("SOURCE_DATE_EPOCH") and not output.epoch and not _has_epoch(values):
            cli.say("WARNING: rewrite-timestamp is set, but there is no SOURCE_DATE_EPOCH to rewrite to")
    notation.check_destinations(asked, cli.cwd, terminal=cli.terminal_out())
    tags = values.all("tag")
    # as buildx has it: with -t the name= of an output does not count
    return tuple(replace(output, names=tags) if tags and output.type not in _FILES else output for output in asked)


def _has_epoch(values: Values) -> bool:
    return any(text.startswith("SOURCE_DATE_EPOCH=") for text in values.all("build-arg"))


def _annotated(output: Output, annotations: tuple[Annotation, ...]) -> Output:
    """`output` with what --annotation says, below what it says itself; docker's media types know no annotations."""
    if output.type in _FILES:
        return output
    return replace(
        output,
        annotations=(*annotations, *output.annotations),
        packing=replace(output.packing, docker=False),
    )


def write_metadata(cli: Cli, target: Path, built: Built, warnings: Sequence[BuildWarning]) -> None:
    """--metadata-file: what buildx writes about a build, with its warnings when it is told to."""
    document = {**metadata(built), **provenance_document(cli, built), **warnings_document(cli, warnings)}
    write_document(target, dict(sorted(document.items())))


def provenance_document(cli: Cli, built: Built) -> dict[str, object]:
    """The provenance's part of --metadata-file, of several platforms one for each: without its big fields unless the
    environment asks for all of it."""
    mode = cli.env.get("BUILDX_METADATA_PROVENANCE", "") or "min"
    if not built.predicates or mode == "disabled" or BOOLEANS.get(mode) is False:
        return {}
    from builder.insight import provenance

    found: dict[str, object] = {}
    for image, predicates in zip(built.result.images, built.predicates, strict=True):
        name = f"buildx.build.provenance/{image.platform}" if built.result.indexed else "buildx.build.provenance"
        for each in predicates:
            if each.type == provenance.TYPE:
                document = json.loads(each.data)
                found[name] = document if mode == "max" else provenance.shortened(document)
    return found


def warnings_document(cli: Cli, warnings: Sequence[BuildWarning]) -> dict[str, object]:
    """The warnings' part of --metadata-file, empty unless the environment asks for it."""
    if not BOOLEANS.get(cli.env.get("BUILDX_METADATA_WARNINGS", "")):
        return {}
    return {"buildx.build.warnings": [_warning(one) for one in warnings]}


def metadata(built: Built) -> dict[str, object]:
    """What --metadata-file says about one build: of several platforms the index, as buildx does."""
    result, described = built.result, built.descriptor
    document: dict[str, object] = {"buildx.build.ref": f"default/default/{result.build_id}"}
    if not result.indexed:
        document["containerimage.config.digest"] = result.image_id
    if described is not None:
        document["containerimage.descriptor"] = described.to_json()
    document["containerimage.digest"] = result.image_id if described is None else described.digest
    if built.names:
        document["image.name"] = ",".join(built.names)
    return document


def write_document(target: Path, document: object) -> None:
    """A JSON file that is there whole or not at all."""
    from builder.transfer.outfile import whole_file

    with whole_file(target) as write:
        write((json.dumps(document, indent=2) + "\n").encode())


def _warning(warning: BuildWarning) -> dict[str, object]:
    """A warning as BuildKit's client has it: texts are bytes there, so base64 in JSON."""
    found: dict[str, object] = {"level": 1, "short": _base64(warning.short)}
    if warning.detail:
        found["detail"] = [_base64(warning.detail)]
    if warning.url:
        found["url"] = warning.url
    if warning.line:
        found["range"] = [{"start": {"line": warning.line}, "end": {"line": max(warning.line, warning.last)}}]
    return found


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")

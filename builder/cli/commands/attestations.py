"""sbom, provenance, referrers: what is attested of an image, here and in registries; its packages where nothing is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.flags import Command, Flag, UsageError, Values, switch
from builder.cli.harmless import harmless

if TYPE_CHECKING:
    from builder.cli.context import Cli

_OUTPUT = Flag("output", "Write to a file, instead of STDOUT", short="o", complete="file")
_PLATFORM = Flag("platform", "Choose the image for this platform: os[/arch[/variant]]")


def sbom(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The bill of materials of an image: the one that its build attached, or one made now."""
    from builder.engine import sbom as verbs
    from builder.errors import InvalidDocument, RegistryError
    from builder.insight.sbom import FORMATS

    chosen = values.text("format") or "cyclonedx"
    if values.given("format") and chosen not in FORMATS:
        raise UsageError(f'invalid argument "{chosen}" for "--format" flag: one of {", ".join(FORMATS)}')
    platform = values.text("platform")
    wanted = (chosen,) if values.given("format") else tuple(FORMATS)
    document: str | None = None
    if not values.on("scan"):
        try:
            document = verbs.attached(cli.engine, cli.env, arguments[0], wanted, platform=platform)
        except (RegistryError, InvalidDocument) as err:
            cli.say(f"WARNING: what is attached to {arguments[0]} cannot be read, so its packages are: {err}")
    if document is not None:
        cli.say(f"the bill of materials that is attached to {arguments[0]}; --scan reads its packages again")
    else:
        document = FORMATS[chosen](verbs.subject(cli.engine, arguments[0], platform=platform))
    _write(cli, values, document)
    return 0


def provenance(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The provenance that is attached to an image."""
    from builder.engine import attestations

    _write(cli, values, attestations.provenance(cli.engine, cli.env, arguments[0], platform=values.text("platform")))
    return 0


def referrers(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What a registry has that refers to an image: its attestations, signatures and the like."""
    from builder.cli.tables import Row, Table
    from builder.engine import registries

    rows: list[Row] = []
    for each in registries.referrers(cli.env, arguments[0]):
        notes = ",".join(f"{name}={value}" for name, value in each.annotations.items())
        kind = each.artifact_type or each.media_type
        rows.append({"Digest": each.digest, "Type": kind, "Size": str(each.size), "Annotations": notes})
    headers = {"Digest": "DIGEST", "Type": "ARTIFACT TYPE", "Size": "SIZE", "Annotations": "ANNOTATIONS"}
    Table(list(headers), headers).show(rows, cli.out, format=values.text("format"))
    return 0


def _write(cli: Cli, values: Values, document: str) -> None:
    if values.text("output"):
        from builder.transfer.outfile import whole_file

        with whole_file(cli.cwd / values.text("output")) as sink:
            sink(document.encode() + b"\n")
    else:
        cli.out(harmless(document))


COMMANDS = {
    "sbom": Command(
        "[OPTIONS] IMAGE",
        "Show the packages in an image as a CycloneDX or SPDX document",
        sbom,
        flags=(
            Flag(
                "format",
                "Kind of document: cyclonedx or spdx (default: what is attached, else cyclonedx)",
                complete="cyclonedx spdx",
            ),
            _OUTPUT,
            _PLATFORM,
            switch("scan", "Read the packages even if a document is attached to the image"),
        ),
        arguments=(1, 1),
        complete="image",
        aliases="lamina image sbom, lamina sbom",
    ),
    "provenance": Command(
        "[OPTIONS] IMAGE",
        "Show the provenance that is attached to an image",
        provenance,
        flags=(_OUTPUT, _PLATFORM),
        arguments=(1, 1),
        complete="image",
        aliases="lamina image provenance, lamina provenance",
    ),
    "referrers": Command(
        "[OPTIONS] IMAGE",
        "List what a registry has that refers to an image",
        referrers,
        flags=(Flag("format", "Format output using a custom template"),),
        arguments=(1, 1),
        aliases="lamina image referrers, lamina referrers",
    ),
}

"""manifest create, annotate, inspect, push and rm: lists of images for several platforms."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from builder.cli.flags import CSV, Command, Flag, Values, switch
from builder.cli.harmless import harmless

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.manifests import Lists, Shown


def create(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a list of images."""
    reference = _lists(cli, values).create(arguments[0], arguments[1:], amend=values.on("amend"))
    cli.out(f"Created manifest list {reference}")
    return 0


def annotate(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Say for which platform a member is."""
    _lists(cli, values).annotate(
        *arguments,
        os=values.text("os"),
        architecture=values.text("arch"),
        variant=values.text("variant"),
        version=values.text("os-version"),
        features=values.all("os-features"),
    )
    return 0


def inspect(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Show a list or a manifest, with `--verbose` what points at it as well."""
    lists, verbose = _lists(cli, values), values.on("verbose")
    if len(arguments) == 2:
        found: Shown | tuple[Shown, tuple[Shown, ...]] = lists.inspect_member(*arguments)
    else:
        found = lists.inspect(arguments[0])
    if isinstance(found, tuple):
        top, below = found
        document = [_verbose(each) for each in below] if verbose else json.loads(top.document)
        indent: int | str = "\t" if verbose else 3
    else:
        document, indent = _verbose(found) if verbose else json.loads(found.document), "\t"
    cli.out(harmless(json.dumps(document, indent=indent, ensure_ascii=False)))
    return 0


def _verbose(shown: Shown) -> dict[str, object]:
    from builder.oci.descriptors import DOCKER_MANIFEST

    kind = "SchemaV2Manifest" if shown.descriptor.media_type == DOCKER_MANIFEST else "OCIManifest"
    return {
        "Ref": shown.name,
        "Descriptor": shown.descriptor.to_json(),
        "Raw": base64.b64encode(shown.document).decode(),
        kind: json.loads(shown.document),
    }


def push(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Push a list; prints its digest."""
    cli.out(_lists(cli, values).push(arguments[0], purge=values.on("purge")).manifest.digest)
    return 0


def remove(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove lists."""
    lists = _lists(cli, values)
    return cli.each(arguments, lists.remove, echo=False)


def _lists(cli: Cli, values: Values) -> Lists:
    from builder.engine.manifests import Lists

    insecure = "insecure" in values.names() and values.on("insecure")
    return Lists(cli.engine, cli.env, insecure=insecure)


_INSECURE = switch("insecure", "Allow communication with an insecure registry")

COMMANDS = {
    "create": Command(
        "MANIFEST_LIST MANIFEST [MANIFEST...]",
        "Create a manifest list of images that are here or at registries, for annotating and pushing",
        create,
        flags=(switch("amend", "Amend an existing manifest list", short="a"), _INSECURE),
        arguments=(2, None),
        complete="image",
    ),
    "annotate": Command(
        "[OPTIONS] MANIFEST_LIST MANIFEST",
        "Add additional information to an image in a manifest list",
        annotate,
        flags=(
            Flag("arch", "Set architecture"),
            Flag("os", "Set operating system"),
            Flag("os-features", "Set operating system feature", kind=CSV),
            Flag("os-version", "Set operating system version"),
            Flag("variant", "Set architecture variant"),
        ),
        arguments=(2, 2),
        complete="image",
    ),
    "inspect": Command(
        "[OPTIONS] [MANIFEST_LIST] MANIFEST",
        "Display an image manifest, or manifest list",
        inspect,
        flags=(_INSECURE, switch("verbose", "Output additional info including layers and platform", short="v")),
        arguments=(1, 2),
        complete="image",
    ),
    "push": Command(
        "[OPTIONS] MANIFEST_LIST",
        "Push a manifest list to a repository",
        push,
        flags=(_INSECURE, switch("purge", "Remove the local manifest list after push", short="p")),
        arguments=(1, 1),
        complete="image",
    ),
    "rm": Command(
        "MANIFEST_LIST [MANIFEST_LIST...]",
        "Delete one or more manifest lists from local storage",
        remove,
        arguments=(1, None),
        complete="image",
    ),
}

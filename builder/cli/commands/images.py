"""images, tag, history, rmi and their forms below `image`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import BOOL, CSV, Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from builder.cli.context import Cli
    from builder.cli.tables import Row
    from builder.oci.references import Reference
    from builder.store.listing import Listed


def images(cli: Cli, values: Values, arguments: list[str]) -> int:
    """List images, one row for each reference."""
    from builder.cli import filters
    from builder.cli.tables import Table
    from builder.engine import images as verbs

    wanted = filters.parse(values.all("filter"), ("dangling", "label", "before", "since", "reference", "until"))
    chosen = filters.images(cli.engine, verbs.shown(cli.engine), wanted)
    if values.on("tree"):
        return _tree(cli, values, chosen, arguments)
    full, now = values.on("no-trunc"), cli.now()
    rows: list[Row] = []
    for image in chosen:
        named = [each for each in image.references if not arguments or filters.names(each, arguments[0])]
        if arguments and not named:
            continue
        shown = str(image.id) if full else image.id.removeprefix("sha256:")[:12]
        created = filters.moment(image.created)
        base = {
            "ID": shown,
            "CreatedSince": units.age(created, now) if created else "N/A",
            "CreatedAt": units.timestamp(created) if created else "N/A",
            "Size": units.size(image.size) if image.size is not None else "N/A",
            "Containers": "N/A",
            "SharedSize": "N/A",
            "UniqueSize": "N/A",
            "VirtualSize": units.size(image.size) if image.size is not None else "N/A",
        }
        for repository, tag, digest in _rows(named, digests=values.on("digests") or bool(values.text("format"))):
            rows.append(base | {"Repository": repository, "Tag": tag, "Digest": digest})
        if not named:
            rows.append(base | {"Repository": "<none>", "Tag": "<none>", "Digest": "<none>"})
    if values.on("quiet"):
        for row in dict.fromkeys(str(row["ID"]) for row in rows):
            cli.out(row)
        return 0
    usual = ["Repository", "Tag", "ID", "CreatedSince", "Size"]
    if values.on("digests"):
        usual.insert(2, "Digest")
    Table(usual, _IMAGE_HEADERS).show(rows, cli.out, format=values.text("format"))
    return 0


def _tree(cli: Cli, values: Values, chosen: Sequence[Listed], arguments: list[str]) -> int:
    """The images with their platforms as branches."""
    from builder.cli import filters, imagetree
    from builder.engine.imagetree import tree
    from runtime.values import replace

    for flag in ("quiet", "no-trunc", "digests", "format"):
        if values.given(flag):
            raise UsageError(f"--{flag} is not yet supported with --tree")
    if arguments:
        named = ((image, [each for each in image.references if filters.names(each, arguments[0])]) for image in chosen)
        chosen = [replace(image, references=tuple(names)) for image, names in named if names]
    for line in imagetree.lines(tree(cli.engine, chosen), width=cli.width(), terminal=cli.terminal_out()):
        cli.out(line)
    return 0


def _rows(references: Sequence[Reference], *, digests: bool) -> Iterator[tuple[str, str, str]]:
    """(repository, tag, digest) as docker lists an image: a repository's digests beside its tags if they are asked for,
    alone when it has no tag.
    """
    for repository in dict.fromkeys(each.familiar_name() for each in references):
        mine = [each for each in references if each.familiar_name() == repository]
        tags = [each.tag for each in mine if each.tag] or ["<none>"]
        known = [str(each.digest) for each in mine if each.digest and not each.tag] or ["<none>"]
        for tag in tags:
            for digest in known if digests else known[:1]:
                yield repository, tag, digest


_IMAGE_HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "VirtualSize": "SIZE",
}


def tag(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Give an image a further name."""
    from builder.engine import images as verbs

    verbs.tag(cli.engine, *arguments)
    return 0


def rmi(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Remove images; `--force` also makes an image that is not there no error, as docker does."""
    from builder.engine import images as verbs
    from builder.errors import ImageNotFound
    from builder.store.images import Untagged

    deleted = False

    def one(name: str) -> None:
        nonlocal deleted
        try:
            removed = verbs.remove(
                cli.engine,
                name,
                force=values.on("force"),
                prune_parents=not values.on("no-prune"),
                only=values.all("platform"),
            )
        except ImageNotFound as error:
            if not values.on("force"):
                raise
            cli.say(f"Error: {error.message}")
            return
        for each in removed:
            cli.out(f"Untagged: {each.reference.familiar()}" if isinstance(each, Untagged) else f"Deleted: {each.id}")
            deleted |= not isinstance(each, Untagged)

    code = cli.each(arguments, one, echo=False)
    if deleted:
        from builder.cli.commands.cache import keep_to_limit

        keep_to_limit(cli)  # what the images had as well is now build cache's alone
    return code


def history(cli: Cli, values: Values, arguments: list[str]) -> int:
    """The steps of an image, newest first."""
    from builder.cli import filters
    from builder.cli.tables import Table
    from builder.engine import images as verbs

    full, human, now = values.on("no-trunc"), values.on("human"), cli.now()
    rows: list[Row] = []
    for line in verbs.history(cli.engine, arguments[0], values.text("platform")):
        created = filters.parsed_moment(line.created)
        image = line.image if full else line.image.removeprefix("sha256:")[:12]
        text = line.created_by if full else units.ellipsis(line.created_by, 45)
        rows.append(
            {
                "ID": image or "<missing>",
                "CreatedSince": units.age(created, now) if created else "N/A",
                "CreatedAt": line.created or "",
                "CreatedBy": text.replace("\t", " ").replace("\n", " "),
                "Size": units.size(line.size) if human else str(line.size),
                "Comment": line.comment,
            }
        )
    if values.on("quiet"):
        for row in rows:
            cli.out(str(row["ID"]))
        return 0
    headers = {
        "ID": "IMAGE",
        "CreatedSince": "CREATED",
        "CreatedAt": "CREATED AT",
        "CreatedBy": "CREATED BY",
        "Size": "SIZE",
        "Comment": "COMMENT",
    }
    usual = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    Table(usual, headers).show(rows, cli.out, format=values.text("format"))
    return 0


_LIST = (
    switch("all", "Show all images (default hides intermediate images)", short="a"),
    switch("digests", "Show digests"),
    many("filter", "Filter output based on conditions provided", short="f", word="filter"),
    Flag("format", "Format output using a custom template"),
    switch("no-trunc", "Don't truncate output"),
    switch("quiet", "Only show image IDs", short="q"),
    switch("tree", "List multi-platform images as a tree"),
)
_REMOVE = (
    switch("force", "Force removal of the image", short="f"),
    switch("no-prune", "Do not delete untagged parents"),
    Flag("platform", "Remove only the given platform variant: os[/arch[/variant]], separated by commas", kind=CSV),
)
_LS_ALIASES = "lamina image ls, lamina image list, lamina images"
_RM_ALIASES = "lamina image rm, lamina image remove, lamina rmi"


def _list(usage: str) -> Command:
    return Command(usage, "List images", images, flags=_LIST, arguments=(0, 1), complete="image", aliases=_LS_ALIASES)


def _remove() -> Command:
    return Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        rmi,
        flags=_REMOVE,
        arguments=(1, None),
        complete="image",
        aliases=_RM_ALIASES,
    )


COMMANDS = {
    "images": _list("[OPTIONS] [REPOSITORY[:TAG]]"),
    "image ls": _list("[OPTIONS] [REPOSITORY[:TAG]]"),
    "rmi": _remove(),
    "image rm": _remove(),
    "tag": Command(
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
        tag,
        arguments=(2, 2),
        complete="image",
    ),
    "history": Command(
        "[OPTIONS] IMAGE",
        "Show the history of an image",
        history,
        flags=(
            Flag("format", "Format output using a custom template"),
            Flag("human", "Print sizes and dates in human readable format", short="H", kind=BOOL, default=True),
            switch("no-trunc", "Don't truncate output"),
            Flag("platform", "Show history for the given platform"),
            switch("quiet", "Only show image IDs", short="q"),
        ),
        arguments=(1, 1),
        complete="image",
    ),
}

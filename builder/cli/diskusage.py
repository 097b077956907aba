"""`system df -v`: every image, container, volume and cache item with the room it takes, in docker's four tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli import filters, units
from builder.cli.tables import aligned

if TYPE_CHECKING:
    from builder.cli.context import Cli


def show(cli: Cli) -> None:
    """Print the four tables."""
    for title, rows in (
        ("Images space usage:", _images(cli)),
        ("Containers space usage:", _containers(cli)),
        ("Local Volumes space usage:", _volumes(cli)),
    ):
        cli.out(f"{title}\n")
        for line in aligned(rows):
            cli.out(line)
        cli.out("")
    total, rows = _cache(cli)
    cli.out(f"Build cache usage: {units.size(total, digits=4)}\n")
    for line in aligned(rows):
        cli.out(line)


def _images(cli: Cli) -> list[list[str]]:
    from builder.engine import images

    engine = cli.engine
    listed = images.list_images(engine)
    layers = {image.id: images.layers_of(engine, image.id) for image in listed}
    users: dict[str, int] = {}
    for each in layers.values():
        for layer in set(each):
            users[layer] = users.get(layer, 0) + 1
    sizes = {str(layer.id): layer.size or 0 for layer in engine.store.snapshots.list()}
    containers = engine.store.images.users()
    rows = [["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "SHARED SIZE", "UNIQUE SIZE", "CONTAINERS"]]
    for image in listed:
        total = sum(sizes.get(layer, 0) for layer in layers[image.id])
        shared = sum(sizes.get(layer, 0) for layer in layers[image.id] if users[layer] > 1)
        created = filters.moment(image.created)
        facts = [
            image.id.removeprefix("sha256:")[:12],
            units.age(created, cli.now()) if created else "N/A",
            *(units.size(each, digits=4) for each in (total, shared, total - shared)),
            str(containers.get(image.id, 0)),
        ]
        names = [(each.familiar_name(), each.tag or "<none>") for each in image.references] or [("<none>", "<none>")]
        rows += [[*name, *facts] for name in names]
    return rows


def _containers(cli: Cli) -> list[list[str]]:
    from builder.cli.commands import watch
    from builder.engine import containers

    rows = [["CONTAINER ID", "IMAGE", "COMMAND", "LOCAL VOLUMES", "SIZE", "CREATED", "STATUS", "NAMES"]]
    for container in containers.listed(cli.engine):
        row = watch.container_row(cli, container, containers.state(cli.engine, container), full=False, size=True)
        volumes = [mount for mount in containers.definition(container).mounts if mount.name]
        fields = ("ID", "Image", "Command", "", "Size", "RunningFor", "Status", "Names")
        rows.append([str(row[field]) if field else str(len(volumes)) for field in fields])
    return rows


def _volumes(cli: Cli) -> list[list[str]]:
    from builder.engine import containers, usage

    engine = cli.engine
    rows = [["VOLUME NAME", "LINKS", "SIZE"]]
    for volume in engine.volumes.list():
        links = len(containers.volume_users(engine, volume.name))
        rows.append([volume.name, str(links), units.size(usage.tree_size(volume.mountpoint), digits=4)])
    return rows


def _cache(cli: Cli) -> tuple[int, list[list[str]]]:
    from builder.engine import collection

    rows = [["CACHE ID", "CACHE TYPE", "SIZE", "CREATED", "LAST USED", "USAGE", "SHARED"]]
    items = collection.cache_items(cli.engine)
    for item in items:
        rows.append(
            [
                item.id[:12],
                item.kind.value,
                units.size(item.size, digits=4),
                units.age(units.moment(item.created), cli.now()),
                units.age(units.moment(item.last_used), cli.now()),
                str(item.uses),
                "true" if item.shared else "false",
            ]
        )
    return sum(item.cost for item in items), rows

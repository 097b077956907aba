"""bootstrap: a base image without any registry."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from builder.cli.flags import CSV, Command, Flag, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.transfer.bootstrap import Progress


def bootstrap(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make the image and print its names."""
    from builder.engine import transfers
    from builder.oci import platforms
    from builder.transfer.bootstrap import Request

    said = ""

    def told(progress: Progress) -> None:
        nonlocal said
        # Once per work, not per piece of it that has come.
        if progress.text != said and not values.on("quiet"):
            said = progress.text
            size = f" ({progress.total / 1e6:.1f} MB)" if progress.total and not progress.done else ""
            cli.say(progress.text + size)

    proxies = tuple(
        (scheme, address)
        for scheme in ("http", "https")
        if (address := cli.env.get(f"{scheme}_proxy") or cli.env.get(f"{scheme}_proxy".upper(), ""))
    )
    made = transfers.bootstrap(
        cli.engine,
        Request(
            name=arguments[0],
            created=cli.now(),
            mirror=values.text("mirror") or None,
            tag=values.text("tag") or None,
            include=values.all("include"),
            proxies=proxies,
            platforms=platforms.parse_all(values.all("platform"), host=platforms.host(os.uname().machine)),
        ),
        told,
    )
    if not made.verified:
        cli.say("WARNING: the mirror's signature could not be checked: no keyring of it on this host")
    cli.out(made.image_id if values.on("quiet") else "\n".join(made.references))
    return 0


COMMANDS = {
    "bootstrap": Command(
        "[OPTIONS] busybox | debian[:SUITE]",
        "Make a base image (busybox, debian) without any registry",
        bootstrap,
        flags=(
            many("include", "Install this package too", word="package"),
            Flag("mirror", "Address of a Debian mirror (default: the host's apt configuration)", word="url"),
            Flag("platform", "Make it for these platforms (default: this machine's)", kind=CSV),
            switch("quiet", "Print only the image ID", short="q"),
            Flag("tag", "Name of the image", short="t"),
        ),
        arguments=(1, 1),
        complete="busybox debian debian:bookworm debian:trixie",
    )
}

"""pull, push, login, logout, search: images from and to registries."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from builder.cli.flags import Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.transfer.registry.progress import Emit
    from builder.transfer.registry.search import Hit

_TAG_HINT = "Using default tag: latest"


def pull(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Bring an image, or all tags of a repository."""
    from builder.engine import registries
    from builder.oci.references import Reference

    name, platform = arguments[0], values.text("platform") or cli.env.get("DOCKER_DEFAULT_PLATFORM", "")
    reference, every = Reference.parse(name), values.on("all-tags")
    view = _view(cli, values)
    if not every and not reference.tag and not reference.digest and not values.on("quiet"):
        cli.out(_TAG_HINT)
    if every:
        registries.pull_all(cli.engine, cli.env, name, view, platform=platform, passed=cli.say)
        cli.out(reference.name)
    else:
        cli.out(str(registries.pull(cli.engine, cli.env, name, view, platform=platform).reference))
    return 0


def push(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Send an image, or all tags of a repository."""
    from builder.engine import registries
    from builder.oci.references import Reference

    reference, every = Reference.parse(arguments[0]), values.on("all-tags")
    if not values.on("quiet"):
        if not every and not reference.tag:
            cli.out(_TAG_HINT)
        cli.out(f"The push refers to repository [{reference.name}]")
    platform = values.text("platform")
    registries.push(
        cli.engine,
        cli.env,
        arguments[0],
        _view(cli, values),
        all_tags=every,
        platform=platform,
        referrers=values.on("referrers"),
    )
    if values.on("quiet"):
        cli.out(reference.name if every else str(reference.tagged()))
    return 0


def _view(cli: Cli, values: Values) -> Emit:
    if values.on("quiet"):
        return lambda message: None
    from builder.cli.progress.transfers import open_view

    return open_view(sys.stdout, terminal=cli.terminal_out())


def login(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Ask for what was not given, try it at the registry, keep it."""
    from builder.engine import registries

    server = arguments[0] if arguments else ""
    username, password = values.text("username"), values.text("password")
    if values.given("password"):
        cli.say("WARNING! Using --password via the CLI is insecure. Use --password-stdin.")
        if values.on("password-stdin"):
            raise UsageError("--password and --password-stdin are mutually exclusive")
    if values.on("password-stdin"):
        if not username:
            raise UsageError("Must provide --username with --password-stdin")
        password = cli.raw_in().read(1 << 16).decode("utf-8", "replace").rstrip("\r\n")
    if not username and not password and registries.known(cli.env, server):
        cli.out("Authenticating with existing credentials...")
        if registries.renew(cli.env, server):
            cli.out("Login Succeeded")
            return 0
        cli.say("Login did not succeed, please try again")
    if not username or not password:
        if not cli.terminal_in():
            cli.say("Error: Cannot perform an interactive login from a non TTY device")
            return 1
        username = username or _ask("Username: ")
        password = password or _secret()
    if not username or not password:
        cli.say(f"Error: {'password' if username else 'username'} is required")
        return 1
    helped = registries.login(cli.env, server, username, password)
    if not helped:
        path = registries.credentials_file(cli.env)
        cli.say(f"\nWARNING! Your credentials are stored unencrypted in '{path}'.")
        cli.say("Configure a credential helper to remove this warning (credsStore in that file).\n")
    cli.out("Login Succeeded")
    return 0


def _ask(prompt: str) -> str:
    sys.stdout.write(prompt)
    sys.stdout.flush()
    return sys.stdin.readline().strip()


def _secret() -> str:
    from getpass import getpass

    return getpass("Password: ")


def logout(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Forget the credentials."""
    from builder.engine import registries

    server = arguments[0] if arguments else ""
    gone = registries.logout(cli.env, server)
    shown = server or "docker.io"
    cli.out(f"Removing login credentials for {shown}" if gone else f"Not logged in to {shown}")
    return 0


def search(cli: Cli, values: Values, arguments: list[str]) -> int:
    """What a registry finds."""
    from builder.cli import units
    from builder.cli.tables import Row, Table
    from builder.engine import registries

    limit = values.number("limit")
    assert limit is not None
    if not 1 <= limit <= 100:
        raise UsageError(f"invalid limit {limit}: must be between 1 and 100")
    wanted = _filter(values.all("filter"))
    rows: list[Row] = []
    for hit in registries.search(cli.env, arguments[0], limit=limit):
        if wanted(hit):
            text = hit.description.replace("\n", " ").replace("\r", " ")
            rows.append(
                {
                    "Name": hit.name,
                    "Description": text if values.on("no-trunc") else units.ellipsis(text, 45),
                    "StarCount": str(hit.stars),
                    "IsOfficial": "[OK]" if hit.official else "",
                    "IsAutomated": "[OK]" if hit.automated else "",
                }
            )
    headers = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}
    headers["IsAutomated"] = "AUTOMATED"
    Table(list(headers)[:4], headers).show(rows, cli.out, format=values.text("format"))
    return 0


def _filter(texts: tuple[str, ...]) -> Callable[[Hit], bool]:
    stars, flags = 0, {}
    for text in texts:
        key, _, value = text.partition("=")
        if key == "stars" and value.isascii() and value.isdigit():
            stars = max(stars, int(value))
        elif key in ("is-official", "is-automated") and value in ("true", "false", "1", "0"):
            flags[key] = value in ("true", "1")
        else:
            raise UsageError(f"invalid filter '{text}': use stars=N, is-official=BOOL or is-automated=BOOL")

    def wanted(hit: Hit) -> bool:
        found = {"is-official": hit.official, "is-automated": hit.automated}
        return hit.stars >= stars and all(found[key] == value for key, value in flags.items())

    return wanted


_TRUST = switch("disable-content-trust", "Skip image verification", default=True, hidden=True)

COMMANDS = {
    "pull": Command(
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        pull,
        flags=(
            switch("all-tags", "Download all tagged images in the repository", short="a"),
            _TRUST,
            Flag("platform", "Set platform if the image is for several"),
            switch("quiet", "Suppress verbose output", short="q"),
        ),
        arguments=(1, 1),
        complete="image",
        aliases="lamina image pull, lamina pull",
    ),
    "push": Command(
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        push,
        flags=(
            switch("all-tags", "Push all tags of an image to the repository", short="a"),
            _TRUST,
            Flag("platform", "Push a platform-specific manifest as a single-platform image: os[/arch[/variant]]"),
            switch("quiet", "Suppress verbose output", short="q"),
            switch("referrers", "Push attestations as artifacts that refer to the image, not in an index with it"),
        ),
        arguments=(1, 1),
        complete="image",
        aliases="lamina image push, lamina push",
    ),
    "login": Command(
        "[OPTIONS] [SERVER]",
        "Authenticate to a registry",
        login,
        flags=(
            Flag("password", "Password or Personal Access Token (PAT)", short="p"),
            switch("password-stdin", "Take the Password or Personal Access Token (PAT) from stdin"),
            Flag("username", "Username", short="u"),
        ),
        arguments=(0, 1),
    ),
    "logout": Command("[SERVER]", "Log out from a registry", logout, arguments=(0, 1)),
    "search": Command(
        "[OPTIONS] TERM",
        "Search a registry for images",
        search,
        flags=(
            many("filter", "Filter output based on conditions provided", short="f", word="filter"),
            Flag("format", "Pretty-print search using a Go template"),
            Flag("limit", "Max number of search results", kind="int", default=25),
            switch("no-trunc", "Don't truncate output"),
        ),
        arguments=(1, 1),
    ),
}

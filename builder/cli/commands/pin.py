"""pin: the images that a Dockerfile names, by digest."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.flags import Command, Flag, UsageError, Values, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli
    from builder.engine.pin import Pin, Resolve

FLAGS = (
    Flag(
        "file",
        'Name of the Dockerfile (default: "PATH/Dockerfile"; "-" reads stdin and writes stdout)',
        short="f",
        complete="file",
    ),
    switch("check", "Change nothing; exit with 1 when something is not pinned"),
    switch("dry-run", "Show what would change, as a diff"),
    switch("diff", "Same as --dry-run"),
    switch("update", "Look up what is pinned already, too"),
    switch("pull", "Ask the registries, not the store"),
    switch("quiet", "Tell only what is not pinned", short="q"),
)


def pin(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Rewrite the file, or look what would be."""
    import parser
    from builder.engine import pin as pinning

    place, data = _read(cli, values, arguments)
    name = "Dockerfile" if place is None else os.path.relpath(place, cli.cwd)
    dockerfile = parser.parse(data, name=name)
    check = values.on("check")
    found = pinning.pins(dockerfile, None if check else _resolver(cli, values), update=values.on("update"))
    missing = [one for one in found if one.why]
    for one in missing:
        cli.say(f"{_where(name, one)}: {one.image or one.written}: {one.why}" + _hint(one, values, check=check))
    if check:
        return 1 if missing else 0
    after = pinning.rewritten(dockerfile, data, found)
    if values.on("dry-run") or values.on("diff"):
        for line in _diff(name, data, after):
            cli.out(line)
    elif place is None:
        cli.raw_out().write(after)
    elif after != data:
        _write(place, after)
        for one in found if not values.on("quiet") else ():
            if one.changed:
                cli.out(f"{_where(name, one)}: {one.pinned}")
    return 1 if missing else 0


def _read(cli: Cli, values: Values, arguments: list[str]) -> tuple[Path | None, bytes]:
    """The file and what is in it; None for stdin. Raises UsageError, DockerfileNotFound."""
    from builder.errors import DockerfileNotFound

    given = values.text("file")
    if given == "-":
        return None, cli.raw_in().read()
    if given:
        place = cli.cwd / given
    else:
        place = cli.cwd / (arguments[0] if arguments else ".")
        if place.is_dir():
            names = [place / "Dockerfile", place / "dockerfile"]
            place = next((one for one in names if one.exists()), names[0])
    try:
        return place, place.read_bytes()
    except FileNotFoundError:
        raise DockerfileNotFound(os.path.relpath(place, cli.cwd)) from None
    except IsADirectoryError:
        raise UsageError(f"{given} is a directory; -f names a file") from None


def _resolver(cli: Cli, values: Values) -> Resolve:
    from builder.engine import pin as pinning

    return pinning.from_registry(cli.env) if values.on("pull") else pinning.from_store(cli.engine)


def _where(name: str, one: Pin) -> str:
    return f"{name}:{one.span.start.line}:{one.span.start.column}"


def _hint(one: Pin, values: Values, *, check: bool) -> str:
    if check or values.on("pull") or not one.why.startswith("nobody"):
        return ""
    return f" (lamina pull {one.image}, or --pull)"


def _diff(name: str, before: bytes, after: bytes) -> list[str]:
    from difflib import unified_diff

    old, new = (text.decode("utf-8", "surrogateescape").splitlines() for text in (before, after))
    return list(unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm=""))


def _write(place: Path, data: bytes) -> None:
    """Replace a file in one step, behind a link too; its mode and owner stay."""
    target = Path(os.path.realpath(place))
    status = target.stat()
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(partial, "xb") as file:
            os.fchmod(file.fileno(), status.st_mode & 0o7777)
            if os.geteuid() == 0:
                os.fchown(file.fileno(), status.st_uid, status.st_gid)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


COMMANDS = {
    "pin": Command(
        "[OPTIONS] [PATH]",
        "Pin the images that a Dockerfile names to digests",
        pin,
        flags=FLAGS,
        arguments=(0, 1),
        complete="file",
    )
}

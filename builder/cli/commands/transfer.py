"""save, load and import: images in and out as archives."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

from builder.cli.flags import CSV, INT, Command, Flag, UsageError, Values, many, switch

if TYPE_CHECKING:
    from builder.cli.context import Cli


def save(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Write images to a file or to stdout, never to a terminal."""
    from builder.engine import transfers

    def told(name: str, before: int, after: int) -> None:
        cli.say(f"{name}: {before} layers merged to {after}, so it loads under another id (--max-layers 0 keeps all)")

    most = values.number("max-layers")
    if most is not None and most < 0:
        raise UsageError(f"invalid --max-layers {most}: it must be 0 (any number) or more")
    output = values.text("output")
    only = values.all("platform")
    if output and output != "-":
        transfers.save(cli.engine, arguments, Path(output), platforms=only, most=most, merged=told)
        return 0
    if cli.terminal_out():
        cli.say("Error: cowardly refusing to save to a terminal. Use the -o flag or redirect")
        return 1
    stream = cli.raw_out()
    transfers.save(cli.engine, arguments, stream.write, platforms=only, most=most, merged=told)
    stream.flush()
    return 0


def load(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Read images from a file, from a directory that is an OCI layout, or from stdin."""
    from builder.engine import transfers
    from builder.transfer.docker_archive import Loaded

    def told(loaded: Loaded) -> None:
        if not values.on("quiet") or loaded:
            kind = f"Loaded image: {loaded.reference}" if loaded.reference else f"Loaded image ID: {loaded.image_id}"
            cli.out(kind)

    if not values.text("input") and cli.terminal_in():
        cli.say("Error: requested load from stdin, but stdin is empty")
        return 1
    with ExitStack() as undo, about_archive(values.text("input"), _ARCHIVES):
        path = cli.cwd / values.text("input")
        source = path if values.text("input") and path.is_dir() else _source(cli, values.text("input"), undo)
        transfers.load(cli.engine, source, told, platforms=values.all("platform"))
    return 0


def import_(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make an image from a root file system's tar; prints its id."""
    from builder.engine import transfers

    source, reference = arguments[0], arguments[1] if len(arguments) > 1 else ""
    if source.startswith(("http://", "https://")):
        cli.say("Error: importing from a URL is not supported; fetch it and pipe it in: curl … | lamina import - NAME")
        return 1
    source_path = "" if source == "-" else source
    with ExitStack() as undo, about_archive(source_path, _ROOT_FILE_SYSTEMS):
        image_id = transfers.import_image(
            cli.engine,
            _source(cli, source_path, undo),
            reference=reference,
            changes=values.all("change"),
            message=values.text("message") or f"Imported from {source}",
            platform=values.text("platform"),
        )
    cli.out(str(image_id))
    return 0


def _source(cli: Cli, path: str, undo: ExitStack) -> IO[bytes]:
    return undo.enter_context(open(path, "rb")) if path else cli.raw_in()


_ARCHIVES = (
    "load takes a whole archive as save writes it (docker's, podman's, buildah's and skopeo's too), also packed, or an"
    " OCI layout"
)
_ROOT_FILE_SYSTEMS = "import takes the tar of a root file system, also packed"


@contextmanager
def about_archive(path: str, taken: str) -> Iterator[None]:
    """Say of an archive that is no good which file it is, and what is `taken`."""
    from builder.errors import ArchiveInvalid, ContextError, DigestMismatch, InvalidDocument, LimitExceeded

    try:
        yield
    except ContextError as err:
        if not isinstance(err.__cause__, OSError):
            err.hint = err.hint or taken
        raise
    except (ArchiveInvalid, DigestMismatch, InvalidDocument, LimitExceeded) as err:
        err.message, err.hint = f"{path or 'standard input'}: {err.message}", err.hint or taken
        raise


COMMANDS = {
    "save": Command(
        "[OPTIONS] IMAGE [IMAGE...]",
        "Save one or more images to a tar archive (streamed to STDOUT by default)",
        save,
        flags=(
            Flag(
                "max-layers",
                "Merge adjacent layers until each image has at most this many, which docker takes (0: never)",
                kind=INT,
                default=125,
            ),
            Flag("output", "Write to a file, instead of STDOUT", short="o", complete="file"),
            Flag("platform", "Save only the given platform(s): os[/arch[/variant]], separated by commas", kind=CSV),
        ),
        arguments=(1, None),
        complete="image",
    ),
    "load": Command(
        "[OPTIONS]",
        "Load an image from a tar archive, an OCI layout directory or STDIN",
        load,
        flags=(
            Flag(
                "input",
                "Read from a tar archive file or an OCI layout directory, not STDIN",
                short="i",
                complete="file",
            ),
            Flag("platform", "Load only the given platform(s): os[/arch[/variant]], separated by commas", kind=CSV),
            switch("quiet", "Suppress the load output", short="q"),
        ),
        arguments=(0, 0),
    ),
    "import": Command(
        "[OPTIONS] file|- [REPOSITORY[:TAG]]",
        "Import the contents from a tarball to create a filesystem image",
        import_,
        flags=(
            many("change", "Apply Dockerfile instruction to the created image", short="c"),
            Flag("message", "Set commit message for imported image", short="m"),
            Flag("platform", "Set platform if the image is for several"),
        ),
        arguments=(1, 2),
        complete="file",
    ),
}

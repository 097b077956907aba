"""sign, verify-signature, generate-key-pair: cosign's way with keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.cli.flags import Command, Flag, UsageError, Values, many, switch
from builder.cli.harmless import harmless

if TYPE_CHECKING:
    from builder.cli.context import Cli

_VARIABLES = ("LAMINA_KEY_PASSWORD", "COSIGN_PASSWORD")


def sign(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Sign an image that a registry has."""
    from builder.engine import signing

    signed = signing.sign(
        cli.engine,
        cli.env,
        arguments[0],
        _key(values),
        lambda: _password(cli),
        _annotations(values),
        cwd=cli.cwd,
        recursive=values.on("recursive"),
    )
    for digest in signed:
        cli.out(digest)
    return 0


def verify(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Say whether images are signed with a key; what was signed goes to stdout, as cosign writes it."""
    import json

    from builder.engine import signing

    found: list[object] = []
    for name in arguments:
        digest, payloads = signing.verify(
            cli.env, name, _key(values), _annotations(values), cwd=cli.cwd, same_name=values.on("same-name")
        )
        count = "a signature holds" if len(payloads) == 1 else f"{len(payloads)} signatures hold"
        cli.say(f"{name}: {count} for {digest}")
        found += [json.loads(payload) for payload in payloads]
    cli.out(harmless(json.dumps(found, separators=(",", ":"), ensure_ascii=False)))
    return 0


def generate(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Make a key pair in two files."""
    from builder.engine import signing

    private, public = signing.generate(cli.cwd / values.text("output-key-prefix"), _password(cli, new=True))
    cli.say(f"Private key written to {private.name}")
    cli.say(f"Public key written to {public.name}")
    return 0


def _key(values: Values) -> str:
    if not values.text("key"):
        raise UsageError("--key is needed: signing without a key needs services that are not asked here")
    return values.text("key")


def _password(cli: Cli, *, new: bool = False) -> bytes:
    """The password of a private key: from a variable, or asked for on the terminal."""
    for name in _VARIABLES:
        if name in cli.env:
            return cli.env[name].encode("utf-8", "surrogateescape")
    if not cli.terminal_in():
        raise UsageError(f"the key's password is needed: set {_VARIABLES[0]}, which may be empty for a new key")
    from getpass import getpass

    text = getpass("Enter password for private key: ")
    if new and getpass("Enter password for private key again: ") != text:
        raise UsageError("the passwords do not match")
    return text.encode("utf-8", "surrogateescape")


def _annotations(values: Values) -> dict[str, str]:
    found = {}
    for text in values.all("annotations"):
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"invalid annotation {text}, expected key=value")
        found[name] = value
    return found


_KEY = Flag("key", "File with the key, or env://VARIABLE", complete="file")
_SIGNED = many("annotations", "Key=value that is signed with the image", short="a", word="stringArray")

COMMANDS = {
    "sign": Command(
        "[OPTIONS] --key KEY IMAGE",
        "Sign an image in a registry with a key, as cosign does",
        sign,
        flags=(
            _KEY,
            _SIGNED,
            switch("recursive", "Sign all manifests of a multi-platform image too", short="r"),
            switch("yes", "Skip confirmation prompts", short="y", hidden=True),
        ),
        arguments=(1, 1),
    ),
    "verify-signature": Command(
        "[OPTIONS] --key KEY IMAGE [IMAGE...]",
        "Verify that images in registries are signed with a key",
        verify,
        flags=(
            _KEY,
            _SIGNED,
            switch("same-name", "Refuse signatures that were made under another repository's name"),
        ),
        arguments=(1, None),
    ),
    "generate-key-pair": Command(
        "[OPTIONS]",
        "Make a key pair to sign images with",
        generate,
        flags=(Flag("output-key-prefix", "Name of the two files, before .key and .pub", default="cosign"),),
        arguments=(0, 0),
    ),
}

"""inspect, and its forms for one kind of thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from builder.cli.flags import Command, Flag, Values, switch
from builder.cli.harmless import harmless

if TYPE_CHECKING:
    from builder.cli.context import Cli

Show = Callable[["Cli", str, Values], Any]


def container(cli: Cli, name: str, values: Values) -> Any:
    """A container's document."""
    from builder.engine import containers, wire

    size = "size" in values.names() and values.on("size")
    return wire.container(cli.engine, containers.find(cli.engine, name), size=size)


def image(cli: Cli, name: str, values: Values) -> Any:
    """An image's document."""
    from builder.engine import images, wire

    platform = values.text("platform") if "platform" in values.names() else ""
    return wire.image(cli.engine, images.find(cli.engine, name, platform))


def volume(cli: Cli, name: str, values: Values) -> Any:
    """A volume's document."""
    from builder.engine import wire

    return wire.volume(cli.engine.volumes.get(name))


def network(cli: Cli, name: str, values: Values) -> Any:
    """A network's document."""
    from builder.engine import networks, wire

    return wire.network(cli.engine, networks.find(cli.engine, name))


KINDS: dict[str, Show] = {"container": container, "image": image, "network": network, "volume": volume}


def inspect(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Whatever has the name: container, image, network, volume, in this order."""
    from builder.errors import InvalidInput

    wanted = values.text("type")
    if wanted and wanted not in KINDS:
        raise InvalidInput(f'unknown type: "{wanted}": must be one of "' + '", "'.join(KINDS) + '"')
    return show(cli, values, arguments, [KINDS[wanted]] if wanted else list(KINDS.values()))


def of(kind: str) -> Callable[[Cli, Values, list[str]], int]:
    """The command that looks for one kind only."""
    return lambda cli, values, arguments: show(cli, values, arguments, [KINDS[kind]])


def show(cli: Cli, values: Values, names: list[str], kinds: list[Show]) -> int:
    """Print the documents of `names`, and what could not be found; 1 when something was not."""
    from builder.cli import app, gotemplate
    from builder.errors import EngineError, InvalidReference, NotFound
    from runtime.errors import ContainerError

    format = values.text("format")
    try:
        template = gotemplate.Template(format) if format not in ("", "json") else None
    except gotemplate.TemplateError as err:
        raise gotemplate.UnreadableTemplate(*err.args) from None
    found, code = [], 0
    for name in names:
        error: Exception | None = None
        for kind in kinds:
            try:
                found.append(kind(cli, name, values))
                break
            except (NotFound, InvalidReference, ContainerError) as err:
                error = error or err
            except EngineError:
                raise
        else:
            code = 1
            if len(kinds) > 1:
                cli.say(f"Error: No such object: {name}")
            elif error is not None:
                cli.say(app.message(error))
    if template is not None:
        for document in found:
            cli.out(template.render(_typed(document)))
    elif format == "json":
        for document in found:
            cli.out(gotemplate.to_json(document))
    else:
        cli.out(harmless(json.dumps(found, indent=4, ensure_ascii=False)) if found else "[]")
    return code


_UNSET: dict[str, Any] = dict.fromkeys(("User", "WorkingDir", "StopSignal"), "")
_UNSET |= dict.fromkeys(("Env", "Cmd", "Entrypoint", "OnBuild", "Shell", "Healthcheck"))
_UNSET |= {"Labels": {}, "Volumes": {}, "ExposedPorts": {}}


def _typed(document: Any) -> Any:
    """What a template sees: docker's has all fields of a config, also those that are left out of the JSON."""
    config = document.get("Config")
    return document | {"Config": _UNSET | config} if isinstance(config, dict) else document


_FORMAT = Flag("format", "Format output using a custom template: 'json' or a Go template", short="f")
_SIZE = switch("size", "Display total file sizes if the type is container", short="s")
_PLATFORM = Flag("platform", "Inspect a specific platform of the multi-platform image: os[/arch[/variant]]")
_ONLY = {"container": (_SIZE,), "image": (_PLATFORM,)}


def _one(kind: str) -> Command:
    flags = (_FORMAT, *_ONLY[kind]) if kind in _ONLY else (_FORMAT,)
    word = kind.upper()
    return Command(
        f"[OPTIONS] {word} [{word}...]",
        f"Display detailed information on one or more {kind}s",
        of(kind),
        flags=flags,
        arguments=(1, None),
        complete=kind,
    )


COMMANDS = {
    "inspect": Command(
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Return low-level information on lamina objects",
        inspect,
        flags=(_FORMAT, _SIZE, Flag("type", "Only inspect objects of the given type", complete=" ".join(KINDS))),
        arguments=(1, None),
        complete="container image",
    ),
    **{kind: _one(kind) for kind in KINDS},
}

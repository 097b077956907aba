"""Dockerfile instructions that change an image's config without a build: `-c` of commit and import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import InvalidInput
from runtime.values import replace

if TYPE_CHECKING:
    from builder.oci.configs import ImageConfig
    from builder.pipeline.config_step import Settings
    from parser.instructions import Command, Instruction


def apply(config: ImageConfig, changes: Sequence[str]) -> ImageConfig:
    """`config` after the instructions CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL,
    USER, VOLUME, WORKDIR and MAINTAINER in `changes`. ArgsEscaped stays as it was, as with
    docker. Raises DockerfileError, InvalidInput for any other."""
    from builder.pipeline.walk import settings_of
    from parser import parse

    settings = settings_of(config)
    onbuild = list(config.config.on_build)
    for text in changes:
        for instruction in parse(text, name="--change").instructions:
            _one(settings, onbuild, instruction)
    return replace(config, author=settings.author, config=settings.config(config.config, onbuild))


def _one(settings: Settings, onbuild: list[str], line: Instruction) -> None:
    from builder.oci.configs import Healthcheck
    from parser import instructions as ast
    from parser import words
    from parser.ports import parse_port

    def expand(text: str) -> str:
        return words.expand(text, settings.env)

    def argv(command: Command) -> tuple[str, ...]:
        return command.argv if isinstance(command, ast.ExecForm) else settings.in_shell(command.script)

    match line:
        case ast.Env():
            settings.set_env([(expand(pair.key), expand(pair.value)) for pair in line.pairs])
        case ast.Label():
            settings.set_labels([(expand(pair.key), expand(pair.value)) for pair in line.pairs])
        case ast.Cmd():
            settings.set_cmd(argv(line.command))
        case ast.Entrypoint():
            settings.set_entrypoint(argv(line.command))
        case ast.User():
            settings.set_user(expand(line.user))
        case ast.Workdir():
            settings.set_workdir(expand(line.path))
        case ast.Expose():
            settings.expose([port for text in line.ports for port in parse_port(expand(text))])
        case ast.Volume():
            settings.add_volumes([expand(path) for path in line.paths])
        case ast.Stopsignal():
            settings.set_stop_signal(expand(line.signal))
        case ast.Shell():
            settings.set_shell(line.argv)
        case ast.Healthcheck():
            settings.set_healthcheck(
                Healthcheck(
                    line.test, line.interval, line.timeout, line.start_period, line.start_interval, line.retries
                )
            )
        case ast.Onbuild():
            onbuild.append(line.expression)
        case ast.Maintainer():
            settings.set_author(line.name)
        case _:
            raise InvalidInput(
                f"{line.keyword.upper()} is not a valid change command",
                hint="only instructions that change the image's config may stand here, such as CMD, ENV or USER",
            )

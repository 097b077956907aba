"""Lines → statements → instructions: the only module that loads lark."""

from __future__ import annotations

from parser.errors import DockerfileError
from parser.instructions import Dockerfile, Instruction
from parser.source import Source

__all__ = ["parse", "parse_trigger"]


def parse(source: Source) -> Dockerfile:
    """Parse a whole Dockerfile. Raises DockerfileError."""
    raise DockerfileError("the parser is being built", source=source)


def parse_trigger(expression: str) -> Instruction:
    """Read the text of an ONBUILD trigger from an image's config: one instruction. Raises DockerfileError."""
    raise DockerfileError("the parser is being built")

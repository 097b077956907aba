"""What a Dockerfile does not say itself but the checks must know: arguments, images, ignored files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from parser.ignorefile import Matcher

__all__ = ["SCRATCH", "ImageFacts", "Surroundings"]

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the checks want to know of a base image.

    `workdir` is None when nobody knows; `platform` is (os, architecture), None when nobody knows.
    """

    env: Mapping[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    shell: tuple[str, ...] = ()
    on_build: tuple[str, ...] = ()
    workdir: str | None = None
    platform: tuple[str, str] | None = None


SCRATCH = ImageFacts(workdir="/")


def _nothing(name: str, platform: str | None) -> ImageFacts:
    return ImageFacts()


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One use of a Dockerfile.

    build_args     `--build-arg`
    automatic      the platform arguments of the global scope (BUILDPLATFORM, TARGETARCH, …)
    target         the stage that is wanted, "" for the last
    only_target    look only at stages that the target needs, as a build does; else at all
    image          what is known of an image, by name and `FROM --platform` (expanded); an image that nobody knows has
                   only PATH
    is_image_name  whether a text could name an image
    platform       (os, architecture) of `FROM --platform=…`, None for what is no platform
    ignored        what the ignore file says; None without one
    contexts       the names that `--build-context` gives
    """

    build_args: Mapping[str, str] = field(default_factory=dict)
    automatic: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    only_target: bool = False
    image: Callable[[str, str | None], ImageFacts] = _nothing
    is_image_name: Callable[[str], bool] = bool
    platform: Callable[[str], tuple[str, str] | None] = lambda text: None
    ignored: Matcher | None = None
    contexts: frozenset[str] = frozenset()

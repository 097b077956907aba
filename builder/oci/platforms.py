"""Platforms: os/arch[/variant] in normal form: `x86_64` is amd64, `arm64/v8` is arm64, `arm` is arm/v7."""

from __future__ import annotations

from builder.errors import InvalidPlatform
from runtime.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_ARCHITECTURES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armv7l": ("arm", "v7"),
    "armel": ("arm", "v6"),
    "armv6l": ("arm", "v6"),
}
_VARIANTS = {
    ("arm64", "v8"): "",
    ("arm64", "8"): "",
    ("amd64", "v1"): "",
    ("arm", ""): "v7",
    ("arm", "7"): "v7",
    ("arm", "6"): "v6",
    ("arm", "5"): "v5",
    ("arm", "8"): "v8",
}
_SYSTEMS = {"macos": "darwin"}
_KNOWN_SYSTEMS = frozenset(
    (
        "aix",
        "android",
        "darwin",
        "dragonfly",
        "freebsd",
        "illumos",
        "ios",
        "js",
        "linux",
        "nacl",
        "netbsd",
        "openbsd",
        "plan9",
        "solaris",
        "windows",
        "zos",
    )
)
_KNOWN_ARCHITECTURES = frozenset(
    (
        "386",
        "amd64",
        "amd64p32",
        "arm",
        "armbe",
        "arm64",
        "arm64be",
        "loong64",
        "mips",
        "mipsle",
        "mips64",
        "mips64le",
        "mips64p32",
        "mips64p32le",
        "ppc",
        "ppc64",
        "ppc64le",
        "riscv",
        "riscv64",
        "s390",
        "s390x",
        "sparc",
        "sparc64",
        "wasm",
    )
)
_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")


@dataclass(frozen=True, slots=True)
class Platform:
    """Where an image runs. Always in normal form when made by `parse`, `normal` or `host`."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def matches(self, image: Platform) -> bool:
        """Whether an image for `image` runs here: same os and architecture; an older arm variant will do."""
        if (self.os, self.architecture) != (image.os, image.architecture):
            return False
        if self.variant == image.variant or not image.variant:
            return True
        return self.architecture == "arm" and image.variant <= self.variant


def normal(os: str, architecture: str, variant: str = "", **more: object) -> Platform:
    """A platform in normal form from its parts."""
    os = _SYSTEMS.get(os.lower(), os.lower())
    architecture, implied = _ARCHITECTURES.get(architecture.lower(), (architecture.lower(), ""))
    variant = variant.lower() or implied
    version, features = more.get("os_version", ""), more.get("os_features", ())
    return Platform(
        os,
        architecture,
        _VARIANTS.get((architecture, variant), variant),
        version if isinstance(version, str) else "",
        tuple(str(feature) for feature in features) if isinstance(features, tuple | list) else (),
    )


def parse(text: str, *, default: Platform | None = None) -> Platform:
    """`linux/arm/v7`, or only an os or only an architecture, completed from `default`. Raises InvalidPlatform."""
    parts = text.split("/")
    if len(parts) > 3:
        raise InvalidPlatform(text, "cannot parse platform specifier")
    for part in parts:
        if not part or not _ALLOWED.issuperset(part.lower()):
            rule = 'platform specifier component must match "^[A-Za-z0-9_.-]+$"'
            raise InvalidPlatform(text, rule, component=part)
    if len(parts) > 1:
        return normal(parts[0], parts[1], *parts[2:])
    word = _SYSTEMS.get(parts[0].lower(), parts[0].lower())
    if word in _KNOWN_SYSTEMS:
        return normal(word, default.architecture if default else "amd64", default.variant if default else "")
    if word in _ARCHITECTURES or word in _KNOWN_ARCHITECTURES:
        return normal(default.os if default else "linux", word)
    raise InvalidPlatform(text, "unknown operating system or architecture")


def parse_all(texts: Iterable[str], *, host: Platform) -> tuple[Platform, ...]:
    """What `--platform` says, each once; "local" is the host's. Raises InvalidPlatform."""
    found = (host if text.lower() == "local" else parse(text, default=host) for text in texts)
    return tuple(dict.fromkeys(found))


def host(machine: str) -> Platform:
    """The platform of a Linux kernel that calls itself `machine` (`os.uname().machine`)."""
    return normal("linux", machine)

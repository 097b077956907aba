"""References: `[registry/]repository[:tag][@digest]` with docker's rules, defaults and messages.

`busybox` means docker.io/library/busybox:latest; the first component is a registry only if it has a `.` or `:`, is
`localhost`, or is not lower-case. Rules: distribution/reference, as docker applies them.
"""

from __future__ import annotations

import re

from builder.errors import InvalidDigest, InvalidReference
from builder.oci import digests
from runtime.values import dataclass, replace

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
MAX_NAME = 255
MAX_TEXT = 4096

# Compiled by re's own cache on first use: a command that names no image pays nothing.
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_HOST_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_REGISTRY = rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A whole, valid reference. `str()` is its one canonical spelling, and the key of the store's table."""

    registry: str
    repository: str
    tag: str | None = None
    digest: digests.Digest | None = None

    @staticmethod
    def parse(text: str) -> Reference:
        """`text` as the user wrote it; no tag is added (see `tagged`). Raises InvalidReference."""
        return _parse(text)

    @property
    def name(self) -> str:
        """registry/repository."""
        return f"{self.registry}/{self.repository}"

    def tagged(self) -> Reference:
        """This reference with `:latest` when it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def familiar_name(self) -> str:
        """The repository as docker shows it: without docker.io/ and library/."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        official = self.repository.removeprefix("library/")
        return official if "/" not in official else self.repository

    @property
    def reads_as_id(self) -> bool:
        """Whether it looks like an image's id (sha256:…), which then could mean another image than the one with it."""
        return self.familiar_name() == "sha256"

    def familiar(self) -> str:
        """As docker shows it: busybox:latest."""
        return self.familiar_name() + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def __lt__(self, other: Reference) -> bool:
        return str(self) < str(other)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def valid_tag(tag: str) -> bool:
    """Whether `tag` is a tag: at most 128 of letters, digits, `_`, `.`, `-`, not starting with `.` or `-`."""
    return re.fullmatch(_TAG, tag) is not None


def is_id(text: str) -> bool:
    """Whether `text` may be (the start of) an image id rather than a name: hex digits, with or without sha256:."""
    return re.fullmatch(r"(?:sha256:)?[a-f0-9]{1,64}", text) is not None


def _parse(text: str) -> Reference:
    if len(text) > MAX_TEXT:
        raise InvalidReference(text[:MAX_NAME], "it is too long")
    if re.fullmatch(r"[a-f0-9]{64}", text):
        raise InvalidReference(
            text, message=f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    name, at, digest_text = text.partition("@")
    registry, remainder = _split_registry(name)
    path, slash, last = remainder.rpartition("/")
    last, colon, tag = last.partition(":")
    repository = f"{path}{slash}{last}"
    if repository != repository.lower():
        raise InvalidReference(text, f"repository name ({repository}) must be lowercase")
    if not re.fullmatch(_REPOSITORY, repository) or not re.fullmatch(_REGISTRY, registry):
        raise InvalidReference(text)
    if colon and not valid_tag(tag):
        raise InvalidReference(text)
    if len(f"{registry}/{repository}") > MAX_NAME:
        raise InvalidReference(text, message=f"repository name must not be more than {MAX_NAME} characters")
    digest = None
    if at:
        try:
            digest = digests.parse(digest_text)
        except InvalidDigest as err:
            raise InvalidReference(text) from err
    return Reference(registry, repository, tag or None, digest)


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    is_registry = slash and (any(char in first for char in ".:") or first == "localhost" or first != first.lower())
    registry, remainder = (first, rest) if is_registry else (DEFAULT_REGISTRY, name)
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and "/" not in remainder:
        remainder = f"library/{remainder}"
    return registry, remainder

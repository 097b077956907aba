"""Base images without any registry: ``busybox`` and ``debian``, made from the packages of the host's Debian mirror."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.oci.digests import Digest
    from builder.store import Store
    from runtime.container import Launcher


@dataclass(frozen=True, slots=True)
class Progress:
    """What a bootstrap is doing: shown as a line, or as a bar when *total* is given."""

    text: str
    done: int = 0
    total: int = 0
    """Bytes; 0 when unknown."""


@dataclass(frozen=True, slots=True)
class Request:
    """What to make."""

    name: str
    """"busybox", "debian" or "debian:SUITE"."""
    created: datetime
    mirror: str | None = None
    """Base address of a Debian mirror; None: the host's apt configuration says which."""
    tag: str | None = None
    """Reference for the image; None: "busybox:latest" or "debian:SUITE" (and "debian:latest" when no suite was named)."""
    include: tuple[str, ...] = ()
    """More packages."""
    proxies: tuple[tuple[str, str], ...] = ()
    """(scheme, address) as the caller found them in its environment."""


@dataclass(frozen=True, slots=True)
class Bootstrapped:
    """The image that was made."""

    image_id: Digest
    references: tuple[str, ...]
    verified: bool
    """The mirror's signature was checked against the host's keyring."""
    packages: int


def bootstrap(
    store: Store,
    request: Request,
    launcher: Launcher,
    *,
    emit: Callable[[Progress], object] = lambda progress: None,
    etc_apt: Path = Path("/etc/apt"),
) -> Bootstrapped:
    """Make the image *request* asks for and tag it.

    Raises: BootstrapError (no mirror known, not reachable, wrong checksum or signature, a package that does not configure),
    OSError.
    """
    raise NotImplementedError

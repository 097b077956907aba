"""ADD: COPY's two halves, and sources that are archives, URLs or git repositories.

Remote sources are fetched by :func:`select` into a scratch directory (their content is part of the key, as BuildKit's is).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from builder.pipeline.copy_step import CopySpec, Selection

if TYPE_CHECKING:
    from builder.pipeline.context import Tree
    from builder.pipeline.filehash import DigestCache


@dataclass(frozen=True, slots=True)
class AddSpec:
    """One ADD after expansion: what COPY has, and what only ADD has."""

    copy: CopySpec
    checksum: str | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None
    """None: local archives are unpacked, downloaded ones are not; True or False: both are, or none is."""


def select(
    spec: AddSpec,
    tree: Tree | None,
    *,
    scratch: Callable[[], Path],
    cache: DigestCache | None = None,
    secrets: Mapping[str, bytes] | None = None,
) -> Selection:
    """As ``copy_step.select``; remote sources are fetched. Hand the result to ``copy_step.materialise``.

    *secrets*: HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>, GIT_AUTH_TOKEN(.host), GIT_AUTH_HEADER(.host) when given with --secret.

    Raises: CopyError, RemoteError.
    """
    raise NotImplementedError

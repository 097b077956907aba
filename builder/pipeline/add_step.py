"""ADD: COPY's two halves, and sources that are archives, URLs or git repositories.

Remote sources are fetched by `select` into a scratch directory: their content is part of the key, as BuildKit's is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import BuildError, DigestMismatch, InvalidDigest
from builder.oci import digests
from builder.pipeline import remote
from builder.pipeline.copy_step import CopySpec, Selection, check, excluding, local_parts
from builder.pipeline.ignore import Filter
from builder.pipeline.scanning import Part, scan
from builder.pipeline.trees import Tree
from parser.redact import hidden
from runtime.values import dataclass, replace

if TYPE_CHECKING:
    from builder.pipeline.filehash import DigestCache


@dataclass(frozen=True, slots=True)
class AddSpec:
    """One ADD after expansion: what COPY has, and what only ADD has."""

    copy: CopySpec
    checksum: str | None = None
    keep_git_dir: bool | None = None
    """None: not said."""
    unpack: bool | None = None
    """None: local archives are unpacked, downloaded ones are not; True or False: both are, or none is."""


def select(
    spec: AddSpec,
    tree: Tree | None,
    *,
    scratch: Callable[[], Path],
    cache: DigestCache | None = None,
    secrets: Mapping[str, bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    note: Callable[[remote.Fetched], object] = str,
) -> Selection:
    """As ``copy_step.select``; remote sources are fetched. Hand the result to ``copy_step.materialise``.

    *secrets*: HTTP_AUTH_TOKEN_<host>, HTTP_AUTH_HEADER_<host>, GIT_AUTH_TOKEN[.host], GIT_AUTH_HEADER[.host] where
    they were given with --secret. *environment* is what git is started with, and may name proxies. *note* hears of what
    was fetched.

    Raises: as ``copy_step.select``; DownloadFailed, DigestMismatch.
    """
    check(spec.copy)
    if spec.checksum is not None:
        if len(spec.copy.sources) + len(spec.copy.inline) != 1:
            raise BuildError("checksum can't be specified for multiple sources")
        if not remote.is_remote(spec.copy.sources[0]):
            raise BuildError("checksum can't be specified for non-HTTP(S) and non-Git sources")
        if remote.git_source(spec.copy.sources[0]) is None:
            _check_digest(spec.checksum)
    fetch = _Fetch(spec, secrets or {}, environment or {}, note)
    now = time.time_ns()
    parts: list[Part] = []
    labels: list[str] = []
    with ExitStack() as owned:
        for source in spec.copy.sources:
            git = remote.git_source(source)
            if git is not None:
                parts += fetch.git(git, scratch(), owned, labels)
            elif remote.is_url(source):
                parts += fetch.url(source, scratch(), owned)
            else:
                parts += local_parts(replace(spec.copy, sources=(source,)), tree)
        copy = replace(spec.copy, unpack=spec.unpack is not False)
        return Selection(
            copy, parts, cache=cache, scratch=scratch, now=now, owned=owned.pop_all(), label=" ".join(labels)
        )


def _check_digest(text: str) -> None:
    """Refuse what no download could match, in docker's words, before anything is fetched."""
    try:
        digests.parse(text)
    except InvalidDigest as err:
        what = "invalid checksum digest format"
        if "algorithm must" in err.reason:
            what = "unsupported digest algorithm"
        raise BuildError(f'{what}: "{text}"', hint=err.reason) from err


@dataclass(frozen=True, slots=True)
class _Fetch:
    """What is fetched for one ADD."""

    spec: AddSpec
    secrets: Mapping[str, bytes]
    environment: Mapping[str, str]
    note: Callable[[remote.Fetched], object]

    def url(self, url: str, directory: Path, owned: ExitStack) -> list[Part]:
        spec = self.spec
        headers = remote.authorization(url, self.secrets)
        path, digest = remote.download(url, directory, headers=headers, environment=self.environment)
        if spec.checksum is not None and spec.checksum != digest:
            raise DigestMismatch(f"digest mismatch: {hidden(url)}", spec.checksum, digest)
        self.note(remote.fetched_file(url, digest))
        tree = _owned_tree(directory, hidden(url), owned)
        return [replace(part, may_unpack=spec.unpack is True) for part in scan(tree, path.name, Filter())]

    def git(self, source: remote.GitSource, directory: Path, owned: ExitStack, labels: list[str]) -> list[Part]:
        spec = self.spec
        if spec.checksum is not None:
            if source.checksum and source.checksum != spec.checksum:
                raise BuildError(f'checksum mismatch "{spec.checksum}" != "{source.checksum}"')
            source = replace(source, checksum=spec.checksum)
        if spec.keep_git_dir is not None:
            if source.keep_git_dir not in (None, spec.keep_git_dir):
                raise BuildError("inconsistent keep-git-dir configuration")
            source = replace(source, keep_git_dir=spec.keep_git_dir)
        commit = remote.fetch_git(source, directory, secrets=self.secrets, environment=self.environment)
        labels.append(commit)
        self.note(remote.fetched_commit(source, commit))
        tree = _owned_tree(directory, hidden(source.url), owned)
        return list(scan(tree, source.subdir or "/", Filter(exclude=excluding(spec.copy))))


def _owned_tree(directory: Path, label: str, owned: ExitStack) -> Tree:
    tree = Tree(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), label, keeps_owner=False)
    owned.callback(tree.close)
    return tree

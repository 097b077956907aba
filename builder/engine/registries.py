"""Registries: pull, push, login, logout, search, and images that are pulled because something needs them.

Each function opens the connections that it needs and closes them. `environment` is the user's: it says where
credentials and settings are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.errors import ImageNotFound, InvalidInput, PlatformNotFound, RegistryUnreachable
from builder.oci.references import Reference, is_id
from runtime.values import replace

if TYPE_CHECKING:
    from pathlib import Path

    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.oci.platforms import Platform
    from builder.transfer.registry.progress import Emit
    from builder.transfer.registry.pull import Pulled
    from builder.transfer.registry.push import Pushed
    from builder.transfer.registry.search import Hit
    from builder.transfer.registry.session import Registries

Environment = Mapping[str, str]


def pull(engine: Engine, environment: Environment, name: str, emit: Emit, *, platform: str = "") -> Pulled:
    """Pull one image. Raises InvalidReference, InvalidPlatform and what `registry.pull` raises."""
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        return _pull(engine, registries, Reference.parse(name), emit, platform, exact=bool(platform))


def pull_all(
    engine: Engine,
    environment: Environment,
    name: str,
    emit: Emit,
    *,
    platform: str = "",
    passed: Callable[[str], object] = str,
) -> tuple[Pulled, ...]:
    """Pull all tags of a repository. Those of build caches, signatures and the like, whatever they are called, are
    passed over, and `passed` is told which and why. Raises as `pull`, InvalidDocument.
    """
    from builder.transfer.registry.repository import NotAnImage
    from builder.transfer.registry.session import Registries, first

    reference = Reference.parse(name)
    if reference.tag or reference.digest:
        raise InvalidInput("tag can't be used with --all-tags/-a")
    found = []
    with Registries(environment) as registries:
        _, tags = first(registries.repositories(reference), lambda each: each.tags())
        for tag in tags:
            try:
                each = replace(reference, tag=tag)
                found.append(_pull(engine, registries, each, emit, platform, exact=bool(platform)))
            except NotAnImage as err:
                passed(f"tag {tag} is passed over: {err.message}")
    return tuple(found)


def _pull(
    engine: Engine, registries: Registries, reference: Reference, emit: Emit, platform: str, *, exact: bool
) -> Pulled:
    from builder.oci import platforms
    from builder.transfer.registry.pull import pull as bring

    here = platforms.host(os.uname().machine)
    wanted = platforms.parse(platform, default=here) if platform else here
    try:
        return bring(engine.store, registries, reference, platform=wanted, exact=exact, emit=emit)
    except RegistryUnreachable as err:
        from builder.transfer.bootstrap import BASES

        if reference.digest is None and reference.familiar_name() in BASES:
            name = reference.familiar().removesuffix(":latest")
            err.hint = f"{err.hint}, or make one without a registry: lamina bootstrap {name}"
        raise


def push(
    engine: Engine,
    environment: Environment,
    name: str,
    emit: Emit,
    *,
    all_tags: bool = False,
    platform: str = "",
    referrers: bool = False,
) -> tuple[Pushed, ...]:
    """Push one image or index, or all tags of a repository; of an index with `platform` that image alone.
    `referrers`: what is attested goes along as artifacts that refer to the image, which keeps its own digest.

    Raises ImageNotFound, InvalidPlatform and what `registry.push` raises.
    """
    from builder.engine.images import wanted
    from builder.transfer.attested import Form
    from builder.transfer.registry.push import push as send
    from builder.transfer.registry.session import Registries

    reference = Reference.parse(name)
    if reference.digest is not None:
        raise InvalidInput("cannot push a digest reference")
    if all_tags and reference.tag:
        raise InvalidInput("tag can't be used with --all-tags/-a")
    references: tuple[Reference, ...] = (reference.tagged(),)
    if all_tags:
        references = tuple(each for each in engine.store.images.tags_of(reference.name) if each.tag)
        if not references:
            raise ImageNotFound(reference.familiar(), hint="lamina images lists what is here")
    with Registries(environment) as registries:
        chosen, form = wanted(platform), Form.REFERRERS if referrers else Form.INDEX
        return tuple(send(engine.store, registries, each, emit=emit, platform=chosen, form=form) for each in references)


def referrers(environment: Environment, name: str) -> tuple[Descriptor, ...]:
    """What a registry knows to refer to what a name means there now. Raises InvalidReference, RegistryErrors."""
    from builder.transfer.registry.referrers import listed
    from builder.transfer.registry.session import Registries, described, first

    reference = Reference.parse(name).tagged()
    with Registries(environment) as registries:
        place, found = first(registries.repositories(reference), lambda each: described(each, reference))
        return listed(place, found.digest)


def resolve(environment: Environment, name: str) -> Descriptor:
    """What a name means at its registry now: media type, digest and size of a manifest or index.

    Raises InvalidReference, RegistryErrors.
    """
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        return registries.resolve(Reference.parse(name))


def login(environment: Environment, server: str, username: str, password: str) -> bool:
    """Try a name and password and keep them; whether a credential helper has them. Raises RegistryErrors."""
    from builder.transfer.registry.credentials import Credentials
    from builder.transfer.registry.login import login as enter
    from builder.transfer.registry.login import registry_of
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        return enter(registries, registry_of(server), Credentials(username, password))


def known(environment: Environment, server: str) -> bool:
    """Whether a name and password for a server are kept already. Raises CredentialsFailed."""
    from builder.transfer.registry.credentials import Keyring
    from builder.transfer.registry.login import registry_of

    return Keyring(environment).get(registry_of(server)) is not None


def renew(environment: Environment, server: str) -> bool:
    """Whether what is kept for a server still lets us in. Raises RegistryErrors, CredentialsFailed."""
    from builder.errors import RegistryDenied
    from builder.transfer.registry.login import check, registry_of
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        try:
            check(registries.host(registry_of(server)), server)
        except RegistryDenied:
            return False
    return True


def credentials_file(environment: Environment) -> Path:
    """The file that keeps credentials where no helper does."""
    from builder.transfer.registry.credentials import Keyring

    return Keyring(environment).path


def logout(environment: Environment, server: str) -> bool:
    """Forget the credentials for a server; whether there were any. Raises CredentialsFailed."""
    from builder.transfer.registry.credentials import Keyring
    from builder.transfer.registry.login import registry_of

    return Keyring(environment).erase(registry_of(server))


def search(environment: Environment, term: str, *, limit: int) -> tuple[Hit, ...]:
    """Repositories that a registry finds for a term. Raises Unsupported, RegistryErrors."""
    from builder.transfer.registry.search import search as ask
    from builder.transfer.registry.session import Registries

    with Registries(environment) as registries:
        return ask(registries, term, limit=limit)


def puller(engine: Engine, environment: Environment, emit: Emit) -> Callable[[str, Platform | None], Digest]:
    """What a build calls for an image that it needs from a registry; each is pulled once."""
    known: dict[tuple[str, str], Digest] = {}

    def bring(name: str, platform: Platform | None) -> Digest:
        from builder.transfer.registry.session import Registries

        if not is_pullable(name):
            raise ImageNotFound(name)
        key = name, str(platform or "")
        if key not in known:
            with Registries(environment) as registries:
                pulled = _pull(engine, registries, Reference.parse(name), emit, key[1], exact=False)
            known[key] = pulled.image_id
        return known[key]

    return bring


def is_pullable(name: str) -> bool:
    """Whether a registry may know `name`: not when it can only be an image's id."""
    return not (name.startswith("sha256:") or (is_id(name) and len(name) == 64))


def may_bring(engine: Engine, error: ImageNotFound) -> bool:
    """Whether a pull may bring what was not found: not when an id was meant, of an image that is here for another
    platform."""
    if not is_pullable(error.reference):
        return False
    return (
        not isinstance(error, PlatformNotFound)
        or engine.store.images.named(Reference.parse(error.reference)) is not None
    )

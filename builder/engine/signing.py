"""Signing images in registries with keys, and verifying what was signed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from builder.errors import InvalidInput, KeyUnusable, SignatureMissing
from builder.transfer import keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.engine.session import Engine
    from builder.oci.digests import Digest
    from builder.transfer.keys import Password

    Environment = Mapping[str, str]

_SERVICES = ("awskms://", "gcpkms://", "azurekms://", "hashivault://", "k8s://", "pkcs11:", "gitlab://", "github://")


def generate(prefix: Path, password: bytes) -> tuple[Path, Path]:
    """Write a new key pair into PREFIX.key and PREFIX.pub. Raises InvalidInput (one is there), Unsupported."""
    private, public = prefix.with_name(prefix.name + ".key"), prefix.with_name(prefix.name + ".pub")
    for path in (private, public):
        if path.exists():
            raise InvalidInput(f"{path} is there already", hint="choose another --output-key-prefix, or move it away")
    made = keys.generate(password)
    for path, data, mode in zip((private, public), made, (0o600, 0o644), strict=True):
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        except OSError as err:
            raise InvalidInput(f"cannot write {path}: {err.strerror}") from err
        with open(fd, "wb") as file:
            file.write(data)
    return private, public


def sign(
    engine: Engine,
    environment: Environment,
    name: str,
    key: str,
    password: Password,
    annotations: Mapping[str, str],
    *,
    cwd: Path,
    recursive: bool = False,
) -> tuple[Digest, ...]:
    """Sign what `name` means at its registry now with the key in the file `key`; the digests that were signed.

    Raises KeyUnusable, Unsupported, InvalidReference, RegistryErrors.
    """
    from builder.transfer.registry import signatures
    from builder.transfer.registry.session import Registries

    signing = keys.load_signing(_read(key, cwd, environment), password, key)
    with Registries(environment) as registries:
        reference = signatures.image_of(name)
        return signatures.sign(engine.store, registries, reference, signing, annotations, recursive=recursive)


def verify(
    environment: Environment,
    name: str,
    key: str,
    annotations: Mapping[str, str],
    *,
    cwd: Path,
    same_name: bool = False,
) -> tuple[Digest, tuple[bytes, ...]]:
    """The digest that `name` means at its registry now, and what was signed of it with the key in the file `key`.

    Raises SignatureMissing, KeyUnusable, Unsupported, InvalidReference, RegistryErrors.
    """
    from builder.transfer.registry import signatures
    from builder.transfer.registry.session import Registries

    verifying = keys.load_verifying(_read(key, cwd, environment), key)
    with Registries(environment) as registries:
        reference = signatures.image_of(name)
        digest, found = signatures.verify(registries, reference, verifying, annotations, same_name=same_name)
    good = tuple(each.payload for each in found if not each.reason)
    if not good:
        raise SignatureMissing(f"{name} ({digest})", tuple(dict.fromkeys(each.reason for each in found)))
    return digest, good


def _read(key: str, cwd: Path, environment: Environment) -> bytes:
    """A key's file, or the variable that env://NAME names."""
    if key.startswith("env://"):
        text = environment.get(key.removeprefix("env://"))
        if text is None:
            raise KeyUnusable(key, "this variable is not set")
        return text.encode("utf-8", "surrogateescape")
    if key.startswith(_SERVICES):
        raise KeyUnusable(key, "keys are files here, no services are asked")
    try:
        with open(cwd / key, "rb") as file:
            return file.read(keys.LIMIT)
    except OSError as err:
        raise KeyUnusable(key, err.strerror or str(err)) from err

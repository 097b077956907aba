"""Every error that `builder` raises for the world's faults, as one tree.

    EngineError(message, hint)
    ├── InvalidInput              what the user or a document said cannot be meant
    │   ├── InvalidReference      name[:tag][@digest] against docker's rules
    │   ├── InvalidDigest         not algorithm:hex in the one accepted spelling
    │   ├── InvalidDocument       JSON that is not the OCI or docker document it should be
    │   ├── InvalidPlatform
    │   ├── InvalidName           container, volume, network names
    │   ├── InvalidImage          parts of one image contradict each other
    │   └── BakeError             a bake file, or what was asked of it, cannot be meant
    ├── NotFound
    │   ├── ImageNotFound         ├── ContainerNotFound
    │   │   └── PlatformNotFound  the image is there, but not for this platform
    │   ├── LayerNotFound         ├── BlobNotFound
    │   ├── BuildNotFound         ├── LogNotFound
    │   └── ManifestNotFound      no manifest list or manifest goes by this name
    ├── Conflict                  the thing is there, but in the way
    │   ├── NameInUse             ├── ImageInUse
    │   ├── AmbiguousId           └── WrongState
    ├── StoreError                the disk under us
    │   ├── StoreTooNew           ├── StoreUnreadable
    │   ├── StoreCorrupt          ├── StoreReadOnly
    │   ├── StoreBusy             ├── DiskFull
    │   └── TooManyOpenFiles      └── DeviceFailed
    ├── BuildError                a build cannot go on
    │   ├── StepFailed            ├── ContextError
    │   ├── SourceNotFound        ├── DockerfileNotFound
    │   └── ChecksFailed
    ├── TransferError             what comes in or goes out
    │   ├── ArchiveInvalid        ├── LimitExceeded
    │   ├── DigestMismatch        ├── DownloadFailed
    │   ├── OutputInTheWay        ├── OutputFailed
    │   ├── BucketFailed          an object store, for caches that travel
    │   ├── CredentialsFailed     a helper or a file of credentials
    │   ├── KeyUnusable           ├── SignatureMissing
    │   └── RegistryError         a registry: which one, which repository
    │       ├── RegistryUnreachable   ├── RegistryBlocked
    │       ├── RegistryDenied        ├── RegistryNotFound
    │       ├── RegistryBusy          └── RegistryFailed
    └── Unsupported               this kernel or host lacks something (names it)

A class exists where a caller or a user reacts differently. Messages are docker's where docker has one (its capitals
too, since scripts match on them); otherwise lower case, subject first, no full stop. `hint` says what to do next.
Exit codes and HTTP statuses are tables at the edges, never attributes here. `parser.DockerfileError` and
`runtime.errors.ContainerError` are the two other roots.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.pipeline.progress import BuildWarning


class EngineError(Exception):
    """Root of the tree: `message` is one sentence for the user, `hint` what to do about it (or None).

    `excerpt` shows the instruction in the Dockerfile ("" while nobody has filled it in, or there is none)."""

    excerpt: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


# --- what was said cannot be meant ---------------------------------------------------------------------------------


class InvalidInput(EngineError):
    """A value given by the user or found in a document that no valid state of the world could make right."""


class InvalidReference(InvalidInput):
    """`text` is not an image reference; the message starts with docker's "invalid reference format"."""

    def __init__(self, text: str, reason: str | None = None, *, message: str | None = None) -> None:
        super().__init__(message or ("invalid reference format" + (f": {reason}" if reason else "")))
        self.text = text
        self.reason = reason


class InvalidDigest(InvalidInput):
    """`text` is not a digest in the accepted spelling (`sha256:` and 64 lower-case hex digits, or sha384/sha512)."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"invalid digest {_shown(text)}: {reason}")
        self.text = text
        self.reason = reason


class InvalidDocument(InvalidInput):
    """A JSON document of an image breaks its specification; `where` is the path in it, such as `config.User`."""

    def __init__(self, what: str, reason: str, *, where: str = "") -> None:
        super().__init__(f"invalid {what}: " + (f"{where}: " if where else "") + reason)
        self.what = what
        self.reason = reason
        self.where = where


class InvalidPlatform(InvalidInput):
    """`text` is not os[/arch[/variant]], because of its `component` or as a whole; the message is containerd's."""

    def __init__(self, text: str, reason: str, *, component: str | None = None) -> None:
        whole = f'"{_shown(text)[1:-1]}"'
        lead = whole if component is None else f'"{_shown(component)[1:-1]}" is an invalid component of {whole}'
        super().__init__(f"{lead}: {reason}: invalid argument", hint="write it as os/arch[/variant]: linux/amd64")
        self.text = text


class InvalidName(InvalidInput):
    """`name` breaks docker's rule for names of containers (also volumes, networks: `kind`)."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"Invalid {kind} name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")
        self.kind = kind
        self.name = name


class InvalidImage(InvalidInput):
    """The parts of an image contradict each other (config and layers, history and layers)."""

    def __init__(self, image: str, reason: str) -> None:
        super().__init__(f"image {image} is not consistent: {reason}", hint="lamina fsck --full shows what is damaged")
        self.image = image
        self.reason = reason


class BakeError(InvalidInput):
    """A bake file, or what was asked of one, cannot be meant; `excerpt` shows the place ("" where there is none)."""

    def __init__(self, message: str, *, excerpt: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.excerpt = excerpt


# --- not there -----------------------------------------------------------------------------------------------------


class NotFound(EngineError):
    """The thing with this name or id does not exist."""


class ImageNotFound(NotFound):
    """No image has this reference or id."""

    def __init__(self, reference: str, *, hint: str | None = None) -> None:
        super().__init__(
            f"No such image: {reference}",
            hint=hint or "lamina images lists what is here; pull, build, load or bootstrap it first",
        )
        self.reference = reference


class PlatformNotFound(ImageNotFound):
    """The image is here, but not for the platform that was asked for (None: for none at all)."""

    def __init__(self, reference: str, platform: object | None, *, here: Iterable[str] = (), remedy: str = "") -> None:
        missing = f"the specified platform ({platform})" if platform is not None else "any platform"
        there = ", ".join(sorted(set(here)))
        pull = f"pull {reference}" if platform is None else f"pull --platform {platform} {reference}"
        NotFound.__init__(
            self,
            f"image with reference {reference} was found but does not provide {missing}",
            hint=(f"it is here for {there}; " if there else "")
            + (remedy or f"lamina {pull} brings it from its registry"),
        )
        self.reference = reference


class ManifestNotFound(NotFound):
    """No manifest list here, or no manifest at a registry, goes by this name."""


class ContainerNotFound(NotFound):
    """No container has this name or id."""

    def __init__(self, name: str) -> None:
        super().__init__(f"No such container: {name}", hint="lamina ps -a lists all containers")
        self.name = name


class LayerNotFound(NotFound):
    """A layer id has no row, or its directory has gone; callers of the cache treat it as a miss."""

    def __init__(self, layer: str) -> None:
        super().__init__(f"layer {layer} not found", hint="lamina fsck --repair forgets what refers to it")
        self.layer = layer


class BlobNotFound(NotFound):
    """The content store has no blob with this digest."""

    def __init__(self, digest: str) -> None:
        super().__init__(f"blob {digest} not found")
        self.digest = digest


class BuildNotFound(NotFound):
    """The history has no build with this id."""

    def __init__(self, build: str) -> None:
        super().__init__(f"no such build: {build}")
        self.build = build


class LogNotFound(NotFound):
    """This step of this build has no log."""

    def __init__(self, build: str, step: int) -> None:
        super().__init__(f"no log of step {step} of build {build}")
        self.build = build
        self.step = step


# --- in the way ----------------------------------------------------------------------------------------------------


class Conflict(EngineError):
    """The request is right, but what is there now forbids it."""


class CacheMountInUse(Conflict):
    """A running step has the cache mount, so it can neither be removed nor replaced."""

    def __init__(self, mount: str) -> None:
        super().__init__(f"cache mount {mount} is in use by a running build", hint="wait for the build, or cancel it")
        self.mount = mount


class NameInUse(Conflict):
    """Another container has this name already."""

    def __init__(self, name: str, owner: str) -> None:
        super().__init__(
            f'Conflict. The container name "/{name}" is already in use by container "{owner}". '
            "You have to remove (or rename) that container to be able to reuse that name.",
        )
        self.name = name
        self.owner = owner


class ImageInUse(Conflict):
    """An image cannot be removed; `forceable` says whether force would help."""

    def __init__(self, message: str, *, forceable: bool) -> None:
        super().__init__(message, hint="add --force to remove it all the same" if forceable else None)
        self.forceable = forceable


class AmbiguousId(Conflict):
    """A short id fits several things; `matches` are their full ids."""

    def __init__(self, prefix: str, matches: tuple[str, ...]) -> None:
        super().__init__(
            f"multiple IDs found with provided prefix: {prefix}",
            hint="give more digits; it fits " + ", ".join(matches[:5]),
        )
        self.prefix = prefix
        self.matches = matches


class WrongState(Conflict):
    """A container is not in the state that the verb needs; the caller writes docker's sentence for it."""


# --- the disk under us ---------------------------------------------------------------------------------------------


class StoreError(EngineError):
    """The store directory or its file system cannot do what we need."""


class StoreTooNew(StoreError):
    """The store was written by a newer version."""

    def __init__(self, root: str, found: int, known: int) -> None:
        super().__init__(
            f"store {root} has version {found}, this lamina knows versions up to {known}",
            hint="use the newer lamina, or another store with --root",
        )
        self.found = found
        self.known = known


class StoreUnreadable(StoreError):
    """The store cannot be opened: permissions, or something that is not a store."""


class StoreReadOnly(StoreError):
    """The store is on a file system that cannot be written now."""


class StoreCorrupt(StoreError):
    """The database or a document in it is damaged."""


class StoreBusy(StoreError):
    """Another process held the database for longer than we wait."""


class DiskFull(StoreError):
    """ENOSPC or EDQUOT: nothing half done is kept."""


class TooManyOpenFiles(StoreError):
    """EMFILE or ENFILE."""


class DeviceFailed(StoreError):
    """EIO: the device under the store reports an error."""


# --- a build cannot go on ------------------------------------------------------------------------------------------


class BuildError(EngineError):
    """A build cannot go on; the Dockerfile itself was fine (see parser.DockerfileError otherwise)."""


class StepFailed(BuildError):
    """The command of a RUN ended with `exit_code` (128+n when signal n ended it)."""

    def __init__(self, text: str, exit_code: int, *, command: str | None = None, hint: str | None = None) -> None:
        super().__init__(
            f'process "{command if command is not None else text}" did not complete successfully: '
            f"exit code: {exit_code}",
            hint=hint,
        )
        self.text = text
        self.exit_code = exit_code


class ContextError(BuildError):
    """The build context is missing, unreadable, or not what it says."""


class DockerfileNotFound(BuildError):
    """The Dockerfile is not where it was looked for."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"failed to read dockerfile: open {path}: no such file or directory", hint="name another with -f"
        )
        self.path = path


class SourceNotFound(BuildError):
    """A source of COPY or ADD is not in the context, stage or image (`where`: "context", "stage build", "image x").

    The message is BuildKit's, since scripts match on it; its "ref" is our `where`."""

    def __init__(self, path: str, *, where: str = "context", hint: str | None = None) -> None:
        super().__init__(
            f'failed to compute cache key: failed to calculate checksum of ref {where}: "{path}": not found', hint=hint
        )
        self.path = path
        self.where = where


class ChecksFailed(BuildError):
    """The Dockerfile wants findings of the checks to be errors (`check=error=true`), and there are some.

    `warnings` are the findings, as events of a build."""

    def __init__(self, message: str, warnings: tuple[BuildWarning, ...] = ()) -> None:
        super().__init__(message, hint="lamina build --check shows each with its place")
        self.warnings = warnings


# --- what comes in or goes out -------------------------------------------------------------------------------------


class TransferError(EngineError):
    """Reading or writing an image in an outside form failed."""


class ArchiveInvalid(TransferError):
    """An archive is damaged, hostile, or not of a known form."""


class LimitExceeded(TransferError):
    """An archive or document is larger, deeper or longer than we take."""


class DigestMismatch(TransferError):
    """Bytes do not have the digest that they were announced with."""

    def __init__(self, what: str, expected: str, found: str) -> None:
        super().__init__(f"{what} has digest {found}, expected {expected}")
        self.expected = expected
        self.found = found


class DownloadFailed(TransferError):
    """Something could not be fetched."""


class OutputFailed(TransferError):
    """A file or directory outside of the store, where somebody wanted a result, could not be written."""

    def __init__(self, path: str, error: OSError) -> None:
        super().__init__(f"failed to write {path}: {error.strerror or error}")
        self.path = path


class OutputInTheWay(TransferError):
    """A directory that was there stands where a file of the build's result should be written: `path`."""

    def __init__(self, path: os.PathLike[str] | str) -> None:
        super().__init__(
            f"{os.fspath(path)} is a directory, and a file in the result of the build",
            hint="remove it, or choose another destination",
        )
        self.path = os.fspath(path)


class BucketFailed(TransferError):
    """An object store cannot be reached, or did not do what it was asked for; no key of the account is in the text."""


class KeyUnusable(TransferError):
    """A file is not the key that it should be, or does not open; `name` is what the user calls it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"key {name} cannot be used: {reason}",
            hint="keys are PEM files: the private one signs, the public one verifies; generate-key-pair makes both",
        )
        self.name = name
        self.reason = reason


class SignatureMissing(TransferError):
    """No signature of an image holds under a key; `reasons` say of each one that there is what is wrong with it."""

    def __init__(self, image: str, reasons: tuple[str, ...]) -> None:
        why = "there is none" if not reasons else "; ".join(reasons)
        super().__init__(f"no signature of {image} holds: {why}", hint=None if reasons else "lamina sign makes one")
        self.image = image
        self.reasons = reasons


class CredentialsFailed(TransferError):
    """Credentials cannot be read or written: a helper that is missing, fails or hangs, a file that is damaged."""


class RegistryError(TransferError):
    """A registry did not do what it was asked for. `registry` is its host, `repository` "" where none is meant."""

    def __init__(self, registry: str, repository: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.registry = registry
        self.repository = repository


class RegistryUnreachable(RegistryError):
    """No connection: unknown host, refused, wrong certificate, cut off again and again."""


class RegistryBlocked(RegistryError):
    """The configuration forbids this registry."""


class RegistryDenied(RegistryError):
    """401 or 403: not logged in, or not allowed."""


class RegistryNotFound(RegistryError):
    """404: no such repository, manifest or blob."""


class RegistryBusy(RegistryError):
    """429: too many requests; `wait` is how many seconds the registry asks us to wait (None: it did not say)."""

    def __init__(
        self, registry: str, repository: str, message: str, *, wait: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(registry, repository, message, hint=hint)
        self.wait = wait


class RegistryFailed(RegistryError):
    """Another answer than the protocol allows; 5xx."""


class Unsupported(EngineError):
    """This kernel, file system or host lacks something; the message names it."""


def _shown(text: str, limit: int = 100) -> str:
    """`text` quoted for a message, cut so that hostile input cannot flood a terminal."""
    return repr(text if len(text) <= limit else text[:limit] + "…")

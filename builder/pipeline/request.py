"""What a build is asked for and what it gives back: values, no behaviour.

The command line and the API fill a BuildRequest; nothing below them reads the environment. Texts are as the user wrote
them (a label's value, `--add-host` as "name:ip"); sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from runtime.values import dataclass, field

if TYPE_CHECKING:
    from builder.oci.cacheconfigs import CacheEntry
    from builder.oci.digests import DiffID, Digest
    from builder.oci.platforms import Platform
    from builder.pipeline.plan import Plan
    from builder.pipeline.remote import Fetched
    from builder.pipeline.trees import Tree
    from builder.store.snapshots import LayerID
    from builder.transfer.registry.progress import Teller
    from runtime.spec import Resources


@dataclass(frozen=True, slots=True)
class Secret:
    """`--secret id=…`: the bytes come from a file or were read from the environment by the caller.

    Exactly one of `path` and `value` is set. Neither is ever written to a record, a key or a log."""

    id: str
    path: Path | None = None
    value: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class SshAgent:
    """`--ssh default|id[=socket]`: an agent's socket on the host, reached from a `RUN --mount=type=ssh`."""

    id: str
    socket: Path


@dataclass(frozen=True, slots=True)
class Ulimit:
    """`--ulimit name=soft[:hard]`; `name` without RLIMIT_ and in lower case, -1 means unlimited."""

    name: str
    soft: int
    hard: int


class CacheSource(Protocol):
    """A cache that was exported somewhere."""

    @property
    def name(self) -> str:
        """For messages: "registry example.com/app:cache"."""

    @property
    def entries(self) -> tuple[CacheEntry, ...]:
        """What it has."""

    def fetch(self, layer: DiffID, teller: Teller) -> LayerID:
        """Bring one of its layers into the store, checked; `teller` hears of it. Raises EngineErrors."""


@dataclass(frozen=True, slots=True)
class Travel:
    """What a build takes from and gives to other machines. `inline`: what it gives goes into the image's config too."""

    sources: tuple[CacheSource, ...] = ()
    export: bool = False
    inline: bool = False


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """One build. `context` is None only for a Dockerfile without any (COPY then says so).

    `dockerfile_name` is the name shown in errors ("Dockerfile");
    `allow` holds entitlements ("network.host", "security.insecure"). `jobs` bounds the steps that run at once.
    `proxies` are build arguments that the client's configuration adds; like the predefined proxy arguments they are
    outside of history and keys.
    """

    dockerfile: bytes
    dockerfile_name: str = "Dockerfile"
    context: Tree | None = None
    """The opened context (`context.open_context(…).tree`); the caller closes it."""
    dockerfile_origin: Fetched | None = None
    """Where the Dockerfile came from, if from elsewhere than its context."""
    contexts: Mapping[str, Tree | str] = field(default_factory=dict)
    """Named contexts: an open Tree, or the text of an image reference or id ("docker-image://" may stand before it)."""
    description: str = ""
    """What the records call this build: the context as the user named it."""
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""
    tags: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    pull: bool = False
    """Ask the registries for every image that is named, also for those that are here."""
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    network: str = "default"
    add_hosts: tuple[str, ...] = ()
    shm_size: int | None = None
    ulimits: tuple[Ulimit, ...] = ()
    resources: Resources | None = None
    cgroup_parent: str = ""
    platforms: tuple[Platform, ...] = ()
    """What the image is built for; none is the host's. Of several each gets an image, and an index names them."""
    secrets: tuple[Secret, ...] = ()
    ssh: tuple[SshAgent, ...] = ()
    allow: frozenset[str] = frozenset()
    proxies: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    """The user's: what git is started with and where proxies for downloads are named. Never seen by a RUN or a key."""
    asked: str = ""
    """A digest of all that the user said of the outcome; "" when that does not tell it, or nobody will ask again."""
    jobs: int = 4
    rewrite_timestamps: bool = True
    """Whether SOURCE_DATE_EPOCH bounds the times of files in new layers too, not only those of the config."""
    travel: Travel | None = None
    """What is taken from and given to the caches of other machines."""
    squash: bool = False
    """All layers above the base become one."""
    single_id: bool = False
    """Whether all files belong to the one user id there is: a layer made so is not what it is where there are more."""
    max_layers: int = 0
    """The image has at most so many layers, merged where they are small; 0 is any number."""

    observe: bool = False
    """Whether the result tells what it was made from: such a build is always planned."""
    context_epoch: int | None = None
    """When the context was made, in unix seconds, if it says so: what SOURCE_DATE_EPOCH=context means."""

    @property
    def indexed(self) -> bool:
        """Whether the result is an index: for several platforms, or because the user wants one for a single one."""
        return len(self.platforms) > 1 or self.build_args.get("BUILDKIT_MULTI_PLATFORM", "") in ("1", "true", "True")


def epoch_of(text: str) -> int | None:
    """SOURCE_DATE_EPOCH in unix seconds; None for "". Raises InvalidInput."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        from builder.errors import InvalidInput

        raise InvalidInput(
            f"invalid SOURCE_DATE_EPOCH: {text}", hint="seconds since 1970: git log -1 --pretty=%ct gives them"
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Observed:
    """What an image was made from: its plan, the layer of each of its steps (None: it was not needed, or makes none),
    and what ADD fetched."""

    plan: Plan
    layers: tuple[LayerID | None, ...]
    fetched: tuple[Fetched, ...]


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """The image for one platform."""

    id: Digest
    platform: Platform
    origins: tuple[tuple[int, str], ...] = ()
    """(line of the Dockerfile, instruction) of each new layer, bottom first; () for a build that was not planned."""
    observed: Observed | None = None
    """When the request wanted it."""


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What a build made. `image_id` is the digest of the image's config, or of the index where there is one; counts are
    of the steps that the target needed and that make layers."""

    image_id: Digest
    images: tuple[BuiltImage, ...]
    build_id: str
    tags: tuple[str, ...]
    cached: int
    ran: int
    warnings: tuple[str, ...]
    indexed: bool = False
    """Whether `image_id` is the digest of an index of `images`."""
    cache: tuple[CacheEntry, ...] = ()
    """What other machines can take over, when that was asked for."""
    own: frozenset[DiffID] = frozenset()
    """Then also: the layers of the steps of the images themselves, as the steps left them."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a build would do with one step: `cache` is "hit", "miss", or "unknown" until a step below has run."""

    name: str
    cache: str
    why: str = ""

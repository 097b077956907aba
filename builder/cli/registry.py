"""Which command is where: names, one line of help, module.  Plain data, so that finding a command imports only its own.

A command module has a `COMMANDS` mapping from a key to a `flags.Command`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry:
    """Where a command is: its module below `builder.cli.commands`, its key in COMMANDS, and its line in --help."""

    __slots__ = ("hidden", "key", "module", "short")

    def __init__(self, module: str, key: str, short: str, *, hidden: bool = False) -> None:
        self.module = module
        self.key = key
        self.short = short
        self.hidden = hidden


class Group:
    """Commands below a word (`image`, `container`, …)."""

    __slots__ = ("aliases", "below", "entries", "short")

    def __init__(
        self,
        short: str,
        entries: Mapping[str, Entry],
        aliases: Mapping[str, str] | None = None,
        *,
        below: tuple[str, ...] = (),
    ) -> None:
        """`below` are groups that may also be named after this one's word."""
        self.short = short
        self.entries = entries
        self.aliases = aliases or {}
        self.below = below


def _entries(module: str, table: str, *, rename: Mapping[str, str] | None = None) -> dict[str, Entry]:
    found = {}
    for line in table.strip().splitlines():
        name, _, short = line.strip().partition(" ")
        found[name] = Entry(module, (rename or {}).get(name, name), short.strip())
    return found


_LIFE = _entries(
    "life",
    """
    start    Start one or more stopped containers
    stop     Stop one or more running containers
    restart  Restart one or more containers
    kill     Kill one or more running containers
    pause    Pause all processes within one or more containers
    unpause  Unpause all processes within one or more containers
    wait     Block until one or more containers stop, then print their exit codes
    rm       Remove one or more containers
    rename   Rename a container
    """,
)
_RUN = _entries(
    "run",
    """
    run      Create and run a new container from an image
    create   Create a new container
    """,
)
_ATTACH = _entries(
    "attach",
    """
    attach   Attach local standard input, output, and error streams to a running container
    exec     Execute a command in a running container
    logs     Fetch the logs of a container
    """,
)
_WATCH = _entries(
    "watch",
    """
    ps       List containers
    top      Display the running processes of a container
    stats    Display a live stream of container(s) resource usage statistics
    port     List port mappings or a specific mapping for the container
    """,
)
_FILES = _entries(
    "files",
    """
    cp       Copy files/folders between a container and the local filesystem
    diff     Inspect changes to files or directories on a container's filesystem
    export   Export a container's filesystem as a tar archive
    commit   Create a new image from a container's changes
    """,
)
_BUILD = _entries("build", "build Build an image from a Dockerfile") | _entries("bake", "bake Build from a file")
_IMAGES = _entries(
    "images",
    """
    images   List images
    tag      Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE
    history  Show the history of an image
    rmi      Remove one or more images
    """,
)
_ATTESTATIONS = _entries(
    "attestations",
    """
    sbom       Show the packages in an image as a CycloneDX or SPDX document
    provenance Show the provenance that is attached to an image
    referrers  List what a registry has that refers to an image
    """,
)
_TRANSFER = _entries(
    "transfer",
    """
    save     Save one or more images to a tar archive (streamed to STDOUT by default)
    load     Load an image from a tar archive or STDIN
    import   Import the contents from a tarball to create a filesystem image
    """,
)
_REGISTRIES = _entries(
    "registries",
    """
    pull     Download an image from a registry
    push     Upload an image to a registry
    login    Authenticate to a registry
    logout   Log out from a registry
    search   Search a registry for images
    """,
)
_SIGNATURES = _entries(
    "signatures",
    """
    sign              Sign an image in a registry with a key, as cosign does
    verify-signature  Verify that images in registries are signed with a key
    generate-key-pair Make a key pair to sign images with
    """,
)
_OWN = (
    _entries("bootstrap", "bootstrap Make a base image (busybox, debian) without any registry")
    | _entries("plan", "plan Show what a build would run: hit or miss, and why")
    | _entries("pin", "pin Pin the images that a Dockerfile names to digests")
    | _entries("verify", "verify Build twice and compare: is the image the same, file by file?")
    | _entries("check", "check Check Dockerfiles without building, and repair them")
)
_SYSTEM = _entries(
    "system",
    """
    version  Show the lamina version information
    info     Display system-wide information
    fsck     Check the store and repair it
    """,
) | _entries("cache", "gc Remove what nothing needs, and build cache beyond its limit")
_INSPECT = _entries("inspect", "inspect Return low-level information on lamina objects")
_COMPLETION = _entries("completion", "completion Generate the autocompletion script for the specified shell")

COMMON = ("run", "exec", "ps", "build", "pull", "push", "images", "login", "bootstrap", "plan", "version", "info")
"""What --help shows first."""

COMMANDS: dict[str, Entry] = (
    _RUN
    | _ATTACH
    | _WATCH
    | _BUILD
    | _IMAGES
    | _ATTESTATIONS
    | _REGISTRIES
    | _SIGNATURES
    | _LIFE
    | _FILES
    | _TRANSFER
    | _OWN
    | _SYSTEM
    | _INSPECT
    | _COMPLETION
)

GROUPS: dict[str, Group] = {
    "builder": Group(
        "Manage builds",
        {
            "build": COMMANDS["build"],
            "prune": Entry("cache", "prune", "Remove build cache"),
            "du": Entry("cache", "du", "Show the size of the build cache"),
        },
    ),
    "buildx": Group(
        "Build with BuildKit's words",
        {
            "build": COMMANDS["build"],
            "bake": COMMANDS["bake"],
            "prune": Entry("cache", "prune", "Remove build cache"),
            "du": Entry("cache", "du", "Show the size of the build cache"),
        },
        {"b": "build", "f": "bake"},
        below=("imagetools",),
    ),
    "cache-mount": Group(
        "Manage the directories of RUN --mount=type=cache",
        {
            "ls": Entry("cachemounts", "ls", "List cache mounts"),
            "du": Entry("cachemounts", "du", "Show the size of cache mounts"),
            "export": Entry("cachemounts", "export", "Write cache mounts to a tar, a directory or a registry"),
            "import": Entry("cachemounts", "import", "Take cache mounts from a tar, a directory or a registry"),
            "rm": Entry("cachemounts", "rm", "Remove one or more cache mounts"),
        },
        {"list": "ls", "remove": "rm"},
    ),
    "container": Group(
        "Manage containers",
        {
            **_RUN,
            **_ATTACH,
            **_FILES,
            **_LIFE,
            "ls": Entry("watch", "container ls", "List containers"),
            "top": COMMANDS["top"],
            "stats": COMMANDS["stats"],
            "port": COMMANDS["port"],
            "inspect": Entry("inspect", "container", "Display detailed information on one or more containers"),
            "prune": Entry("prune", "container", "Remove all stopped containers"),
        },
        {"list": "ls", "ps": "ls", "remove": "rm"},
    ),
    "context": Group(
        "Look at build contexts (there is no daemon, so there are no docker endpoints)",
        {"ls": Entry("context", "context ls", "List what is in a build context, and which pattern decided")},
        {"list": "ls"},
    ),
    "image": Group(
        "Manage images",
        {
            "build": COMMANDS["build"],
            **_TRANSFER,
            "pull": COMMANDS["pull"],
            "push": COMMANDS["push"],
            "tag": COMMANDS["tag"],
            "history": COMMANDS["history"],
            "diff": Entry("files", "diff", "Compare two images: files, packages, config, sizes, capabilities"),
            **_ATTESTATIONS,
            "ls": Entry("images", "image ls", "List images"),
            "rm": Entry("images", "image rm", "Remove one or more images"),
            "inspect": Entry("inspect", "image", "Display detailed information on one or more images"),
            "prune": Entry("prune", "image", "Remove unused images"),
        },
        {"list": "ls", "remove": "rm"},
    ),
    "imagetools": Group(
        "Work on images in registries",
        _entries(
            "imagetools",
            """
            create   Create a new image based on source images
            inspect  Show details of an image in the registry
            """,
        ),
    ),
    "manifest": Group(
        "Manage image manifests and manifest lists",
        _entries(
            "manifest",
            """
            annotate Add additional information to an image in a manifest list
            create   Create a manifest list for annotating and pushing to a registry
            inspect  Display an image manifest, or manifest list
            push     Push a manifest list to a repository
            rm       Delete one or more manifest lists from local storage
            """,
        ),
    ),
    "network": Group(
        "Manage networks",
        _entries(
            "networks",
            """
            create     Create a network
            ls         List networks
            rm         Remove one or more networks
            inspect    Display detailed information on one or more networks
            connect    Connect a container to a network
            disconnect Disconnect a container from a network
            """,
        )
        | {"prune": Entry("prune", "network", "Remove all unused networks")},
        {"list": "ls", "remove": "rm"},
    ),
    "system": Group(
        "Manage lamina",
        {
            "df": Entry("system", "df", "Show disk usage"),
            "gc": COMMANDS["gc"],
            "info": COMMANDS["info"],
            "prune": Entry("prune", "system", "Remove unused data"),
            "fsck": COMMANDS["fsck"],
        },
    ),
    "volume": Group(
        "Manage volumes",
        _entries(
            "volumes",
            """
            create   Create a volume
            ls       List volumes
            rm       Remove one or more volumes
            inspect  Display detailed information on one or more volumes
            """,
        )
        | {"prune": Entry("prune", "volume", "Remove unused local volumes")},
        {"list": "ls", "remove": "rm"},
    ),
}

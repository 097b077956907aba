"""Image configs: the JSON whose digest is the image id. OCI's fields, docker's additions, and whatever else was there.

Reading is strict about what has a meaning and keeps what has none in `extra`, so that changing a foreign config loses
nothing. The *bytes* of a foreign config are kept by the store: `to_json` of a value that was read may differ from what
was read (order, white space), and the id is the digest of the bytes.

Not here: what the fields mean for a container (engine) or for a build (pipeline).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import InvalidDigest
from builder.oci import digests, documents, platforms
from runtime.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.oci.documents import Json, Object

MAX_HISTORY = 20_000


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Docker's health check. `test` is () to inherit, ("NONE",), ("CMD", …) or ("CMD-SHELL", text); times in ns."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0

    @staticmethod
    def from_object(source: Object) -> Healthcheck:
        """Read one. Raises InvalidDocument."""
        return Healthcheck(
            test=source.strings("Test") or (),
            interval=source.integer("Interval", default=0),
            timeout=source.integer("Timeout", default=0),
            start_period=source.integer("StartPeriod", default=0),
            start_interval=source.integer("StartInterval", default=0),
            retries=source.integer("Retries", default=0),
        )

    def to_json(self) -> dict[str, object]:
        """Docker's form: zero means "inherit" and is left out."""
        document: dict[str, object] = {
            "Test": list(self.test),
            "Interval": self.interval,
            "Timeout": self.timeout,
            "StartPeriod": self.start_period,
            "StartInterval": self.start_interval,
            "Retries": self.retries,
        }
        return {key: value for key, value in document.items() if value}


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """The `config` object: what a container starts with. `env` holds K=V; `entrypoint`, `cmd`, `shell` None = not set.

    `extra` are fields without a meaning for us (Hostname, AttachStdin, … of older docker).
    """

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = ""
    stop_timeout: int | None = None
    healthcheck: Healthcheck | None = None
    on_build: tuple[str, ...] = ()
    shell: tuple[str, ...] | None = None
    args_escaped: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_object(source: Object) -> ContainerConfig:
        """Read one. Raises InvalidDocument."""
        healthcheck = source.object("Healthcheck")
        stop_timeout = source.integer("StopTimeout", default=-1)
        return ContainerConfig(
            user=source.string("User") or "",
            exposed_ports=source.string_set("ExposedPorts"),
            env=source.strings("Env") or (),
            entrypoint=source.strings("Entrypoint"),
            cmd=source.strings("Cmd"),
            volumes=source.string_set("Volumes"),
            working_dir=source.string("WorkingDir") or "",
            labels=source.string_map("Labels"),
            stop_signal=source.string("StopSignal") or "",
            stop_timeout=None if stop_timeout < 0 else stop_timeout,
            healthcheck=None if healthcheck is None else Healthcheck.from_object(healthcheck),
            on_build=source.strings("OnBuild") or (),
            shell=source.strings("Shell"),
            args_escaped=source.boolean("ArgsEscaped"),
            extra=source.rest(),
        )

    def to_json(self) -> dict[str, object]:
        """As a JSON object; what is not set is left out, as BuildKit does."""
        document: dict[str, object] = {}
        if self.user:
            document["User"] = self.user
        if self.exposed_ports:
            document["ExposedPorts"] = {port: {} for port in sorted(self.exposed_ports)}
        if self.env:
            document["Env"] = list(self.env)
        if self.entrypoint is not None:
            document["Entrypoint"] = list(self.entrypoint)
        if self.cmd is not None:
            document["Cmd"] = list(self.cmd)
        if self.volumes:
            document["Volumes"] = {path: {} for path in sorted(self.volumes)}
        if self.working_dir:
            document["WorkingDir"] = self.working_dir
        if self.labels:
            document["Labels"] = dict(sorted(self.labels.items()))
        if self.stop_signal:
            document["StopSignal"] = self.stop_signal
        if self.stop_timeout is not None:
            document["StopTimeout"] = self.stop_timeout
        if self.args_escaped:
            document["ArgsEscaped"] = True
        if self.healthcheck is not None:
            document["Healthcheck"] = self.healthcheck.to_json()
        if self.on_build:
            document["OnBuild"] = list(self.on_build)
        if self.shell is not None:
            document["Shell"] = list(self.shell)
        return document | dict(self.extra)


@dataclass(frozen=True, slots=True)
class History:
    """One line of `docker history`. `created` is RFC 3339 text as found, None when absent."""

    created: str | None = None
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_object(source: Object) -> History:
        """Read one. Raises InvalidDocument."""
        return History(
            created=_time(source, "created"),
            created_by=source.string("created_by") or "",
            author=source.string("author") or "",
            comment=source.string("comment") or "",
            empty_layer=source.boolean("empty_layer"),
            extra=source.rest(),
        )

    def to_json(self) -> dict[str, object]:
        """As a JSON object; what is not set is left out."""
        document: dict[str, object] = {} if self.created is None else {"created": self.created}
        for key, value in (("author", self.author), ("created_by", self.created_by), ("comment", self.comment)):
            if value:
                document[key] = value
        if self.empty_layer:
            document["empty_layer"] = True
        return document | dict(self.extra)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A whole image config. `diff_ids` and `history` are bottom first; `created` is RFC 3339 text as found."""

    architecture: str
    os: str
    config: ContainerConfig = field(default_factory=ContainerConfig)
    diff_ids: tuple[digests.DiffID, ...] = ()
    history: tuple[History, ...] = ()
    created: str | None = None
    author: str = ""
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    extra: Mapping[str, Json] = field(default_factory=dict)

    @staticmethod
    def from_json(data: bytes) -> ImageConfig:
        """Read one. Raises InvalidDocument."""
        source = documents.load(data, "image config")
        for foreign in ("layers", "manifests"):
            if foreign in source:
                source.fail(foreign, "belongs to another kind of document, so this one is ambiguous")
        config = source.object("config")
        rootfs = source.object("rootfs")
        if rootfs is None:
            source.fail("rootfs", "is missing")
        if rootfs.required("type") != "layers":
            rootfs.fail("type", 'must be "layers"')
        history = source.objects("history")
        if len(history) > MAX_HISTORY:
            source.fail("history", f"has {len(history)} entries, more than {MAX_HISTORY}")
        return ImageConfig(
            architecture=source.word("architecture", needed=True),
            os=source.word("os", needed=True),
            config=ContainerConfig() if config is None else ContainerConfig.from_object(config),
            diff_ids=_diff_ids(rootfs),
            history=tuple(History.from_object(entry) for entry in history),
            created=_time(source, "created"),
            author=source.string("author") or "",
            variant=source.word("variant"),
            os_version=source.word("os.version"),
            os_features=source.strings("os.features") or (),
            extra=source.rest(),
        )

    def to_json(self) -> bytes:
        """The document; the same value always gives the same bytes. Its digest is the image id."""
        document: dict[str, object] = {"architecture": self.architecture, "config": self.config.to_json()}
        if self.created is not None:
            document["created"] = self.created
        if self.author:
            document["author"] = self.author
        document["history"] = [entry.to_json() for entry in self.history]
        document["os"] = self.os
        if self.os_version:
            document["os.version"] = self.os_version
        if self.os_features:
            document["os.features"] = list(self.os_features)
        document["rootfs"] = {"type": "layers", "diff_ids": list(self.diff_ids)}
        if self.variant:
            document["variant"] = self.variant
        return documents.dump(document | dict(self.extra))

    @property
    def platform(self) -> platforms.Platform:
        """Where it runs, in normal form."""
        return platforms.normal(
            self.os, self.architecture, self.variant, os_version=self.os_version, os_features=self.os_features
        )


def _diff_ids(rootfs: Object) -> tuple[digests.DiffID, ...]:
    found: list[digests.DiffID] = []
    texts = rootfs.strings("diff_ids")
    if texts is None:
        # Docker writes null for an image without layers; only a missing `rootfs` is an error.
        return ()
    for position, text in enumerate(texts):
        try:
            found.append(digests.DiffID(digests.parse(text)))
        except InvalidDigest as err:
            rootfs.fail(f"diff_ids[{position}]", err.message)
    return tuple(found)


def _time(source: Object, key: str) -> str | None:
    """RFC 3339 text, checked but kept as it is: rewriting it would change the image id."""
    from builder.oci.times import parse

    value = source.string(key)
    if value is not None and parse(value) is None:
        source.fail(key, f"{value[:60]!r} is not a time in RFC 3339")
    return value

"""The steps of a plan in the JSON that BuildKit has for its own ("LLB"): what provenance shows of how a build went.

Readers of BuildKit's provenance understand it: sources, executions with their mounts, file actions, and which step
reads from which. It is a description, made from our plan; nothing runs by it. Secrets appear as ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from builder.oci.references import DEFAULT_REGISTRY, Reference
from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep, StepSpec, WorkdirStep

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from builder.oci.platforms import Platform
    from builder.pipeline.copy_step import CopySpec
    from builder.pipeline.steps import Base, FilesOf, Work
    from parser.mounts import RunMount

Json: TypeAlias = "dict[str, object]"

_MOUNT_TYPES = {"bind": 0, "secret": 1, "ssh": 2, "cache": 3, "tmpfs": 4}
_SHARING = {"": 0, "shared": 0, "private": 1, "locked": 2}
_NETWORKS = {"host": 1, "none": 2}
"""Numbers of BuildKit's ops.proto; what is not here is 0, its default."""
_NOTHING = -1


class Steps:
    """The steps of one plan. `identifiers` gives what an image is called with its digest, and a context's source."""

    def __init__(self, platform: Platform, image: Callable[[Base], str], contexts: Mapping[str, str]) -> None:
        self._platform = {"Architecture": platform.architecture, "OS": platform.os}
        if platform.variant:
            self._platform["Variant"] = platform.variant
        self._image = image
        self._contexts = contexts
        self._made: list[Json] = []
        self._sources: dict[str, int] = {}
        self.numbers: dict[int, int] = {}
        """The number of a step of the plan → the place in `all` of what it became."""

    def add_all(self, steps: Sequence[StepSpec]) -> list[Json]:
        """All steps of a plan in its order, each source before its first use."""
        for step in steps:
            self.numbers[step.number] = self._step(step)
        return self._made

    def _step(self, step: StepSpec) -> int:
        work = step.work
        if isinstance(work, BaseStep):
            return self._source(self._image(work.base))
        # input 0 is what the step stands on; scratch is none
        inputs = [] if step.parent is None else [self.numbers[step.parent]]
        below = 0 if inputs else _NOTHING
        return self._add(self._op(work, inputs, below), inputs)

    def _op(self, work: Work, inputs: list[int], below: int) -> Json:
        match work:
            case RunStep():
                return {"exec": self._exec(work, inputs, below)}
            case CopyStep():
                return _file(self._copies(work.spec, self._files(work.source), inputs), below)
            case AddStep():
                return _file(self._copies(work.spec.copy, self._files(work.source), inputs, added=True), below)
            case WorkdirStep():
                return _file([(_NOTHING, {"mkdir": {"path": work.path, "mode": 0o755, "makeParents": True}})], below)
            case BaseStep():
                raise AssertionError("a base is a source")

    def _exec(self, work: RunStep, inputs: list[int], below: int) -> Json:
        meta: Json = {"args": list(work.argv), "env": [f"{name}={value}" for name, value in work.env]}
        meta |= {"cwd": work.workdir} | ({"user": work.user} if work.user else {})
        mounts: list[Json] = [{"input": below, "dest": "/", "output": 0}]
        for mount, source in zip(work.mounts, work.sources, strict=True):
            mounts.append(_mount(mount, _NOTHING if source is None else self._read(self._files(source), inputs)))
        made: Json = {"meta": meta, "mounts": mounts}
        if work.network in _NETWORKS:
            made["network"] = _NETWORKS[work.network]
        return made | ({"security": 1} if work.insecure else {})

    def _copies(
        self, spec: CopySpec, source: int | None, inputs: list[int], *, added: bool = False
    ) -> list[tuple[int, Json]]:
        """(which input is read, action) for each source of a COPY or ADD."""
        found: list[tuple[int, Json]] = []
        for path in spec.sources:
            at = source
            if added and _is_elsewhere(path):
                at, path = self._source(path), "/"
            copy: Json = {"src": path, "dest": spec.dest, "mode": _NOTHING, "followSymlink": True}
            copy |= {"dirCopyContents": True, "createDestPath": True, "allowWildcard": True, "timestamp": _NOTHING}
            if added:
                copy["attemptUnpackDockerCompatibility"] = True
            for key, value in (("owner", spec.chown), ("modeStr", spec.chmod)):
                if value:
                    copy[key] = value
            if spec.exclude:
                copy["excludePatterns"] = list(spec.exclude)
            found.append((self._read(at, inputs), {"copy": copy}))
        for file in spec.inline:
            found.append((_NOTHING, {"mkfile": {"path": f"{spec.dest.rstrip('/')}/{file.name}"}}))
        return found

    def _files(self, source: FilesOf) -> int | None:
        """The step that files come from; None for nothing."""
        if source.step is not None:
            return self.numbers[source.step]
        return None if source.context is None else self._source(self._contexts[source.context])

    def _read(self, step: int | None, inputs: list[int]) -> int:
        """Which input of a step *step* is; it becomes one."""
        if step is None:
            return _NOTHING
        if step not in inputs:
            inputs.append(step)
        return inputs.index(step)

    def _source(self, identifier: str) -> int:
        if identifier not in self._sources:
            self._sources[identifier] = self._add({"source": {"identifier": identifier}}, [])
        return self._sources[identifier]

    def _add(self, op: Json, inputs: Sequence[int]) -> int:
        made: Json = {"id": f"step{len(self._made)}", "op": {"Op": op, "platform": self._platform, "constraints": {}}}
        if inputs:
            made["inputs"] = [f"step{number}:0" for number in inputs]
        self._made.append(made)
        return len(self._made) - 1


def image_identifier(name: str, digest: str) -> str:
    """What a source that is an image is called."""
    from builder.errors import InvalidReference

    try:
        reference = Reference.parse(name).tagged()
    except InvalidReference:
        return f"docker-image://{DEFAULT_REGISTRY}/library/image@{digest}"
    return f"docker-image://{reference}" + ("" if reference.digest else f"@{digest}")


def _file(actions: Sequence[tuple[int, Json]], below: int) -> Json:
    """File actions one after the other: each works on what the one before left."""
    made: list[Json] = []
    for number, (second, action) in enumerate(actions):
        last = number == len(actions) - 1
        made.append(
            {
                "input": below if number == 0 else number - 1,
                "secondaryInput": second,
                "output": 0 if last else _NOTHING,
                "Action": action,
            }
        )
    return {"file": {"actions": made}}


def _mount(mount: RunMount, source: int) -> Json:
    made: Json = {"input": source, "dest": mount.target, "output": _NOTHING}
    if mount.source:
        made["selector"] = mount.source
    if mount.readonly and mount.type == "bind":
        made["readonly"] = True
    if _MOUNT_TYPES.get(mount.type):
        made["mountType"] = _MOUNT_TYPES[mount.type]
    if mount.type == "secret":
        made["secretOpt"] = {"ID": mount.id, "optional": not mount.required}
    elif mount.type == "ssh":
        made["SSHOpt"] = {"ID": mount.id, "optional": not mount.required}
    elif mount.type == "cache":
        made["cacheOpt"] = {"ID": mount.id, "sharing": _SHARING[mount.sharing]}
    elif mount.type == "tmpfs" and mount.size:
        made["TmpfsOpt"] = {"size": mount.size}
    return made


def _is_elsewhere(source: str) -> bool:
    from builder.pipeline.remote import is_remote

    return is_remote(source)

"""Cache keys: named leaves of a step, the keys made of them, and which leaf changed when a key misses.

A step has a *definition key* (its leaves and the definition key of its parent: known before anything runs, so that a
whole plan is looked up at once) and a *content key* (its leaves and what its parent contains, no times). The second
finds a result when the parent was made again but is the same: early cut-off. Values of variables are digests only.

Pure: what the leaves of files and sources are is found out by the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.pipeline.steps import AddStep, BaseStep, CopyStep, RunStep, StepSpec, WorkdirStep
from parser.redact import hidden

if TYPE_CHECKING:
    from builder.pipeline.copy_step import CopySpec
    from builder.pipeline.request import BuildRequest
    from parser.mounts import RunMount

Leaf = tuple[str, str]
"""(name, value). Names are for people ("argument V", "files", "mount 1"), values are texts or short digests."""

FORMAT = "2"
"""Part of every key: raise it when a leaf changes its meaning."""

EMPTY = "scratch"
"""The key of nothing: what stands in for a parent on scratch."""


def digest(*texts: str) -> str:
    """sha256 in hex over *texts*, each with its length, so that no two lists run together."""
    hasher = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogateescape")
        hasher.update(b"%d:" % len(data))
        hasher.update(data)
    return hasher.hexdigest()


def key(leaves: Iterable[Leaf], parent: str) -> str:
    """The key of a step with *leaves* on a parent that is known as *parent* (a key or a content digest)."""
    return digest(FORMAT, parent, *(text for leaf in leaves for text in leaf))


def base_key(contents: Sequence[str | None], diff_ids: Sequence[str]) -> str:
    """The definition key of an image's layers. Its config is no part of it: what of it matters is in the leaves."""
    return digest("image", *diff_ids)


def chain(below: str | None, content: str | None) -> str | None:
    """The content of a stack from that of its lower part and the top layer's; None while one of them is unknown."""
    return None if below is None or content is None else digest("chain", below, content)


def leaves(step: StepSpec, request: BuildRequest) -> tuple[Leaf, ...]:
    """What defines *step* by itself: no parent, no files. A BaseStep has no leaves of this kind."""
    own = _own_leaves(step, request)
    return (*own, ("single user id", "yes")) if own and request.single_id else own


def _own_leaves(step: StepSpec, request: BuildRequest) -> tuple[Leaf, ...]:
    work = step.work
    if isinstance(work, RunStep):
        # only programs differ by platform: files that are copied may be the same for several
        return (("platform", _architecture(work)), *_run_leaves(work, request))
    if isinstance(work, CopyStep):
        return _copy_leaves("COPY", work.spec)
    if isinstance(work, AddStep):
        extra = (("checksum", work.spec.checksum or ""), ("unpack", f"{work.spec.unpack} {work.spec.keep_git_dir}"))
        return (*_copy_leaves("ADD", work.spec.copy), *extra)
    if isinstance(work, WorkdirStep):
        return (("instruction", f"WORKDIR {work.path}"), ("user", work.user))
    assert isinstance(work, BaseStep)
    return ()


def _architecture(work: RunStep) -> str:
    return "/".join(filter(None, (work.platform.architecture, work.platform.variant)))


def _run_leaves(work: RunStep, request: BuildRequest) -> Iterable[Leaf]:
    yield "instruction", hidden("RUN " + " ".join(work.argv))
    yield "argv", digest(*work.argv)
    if work.script is not None:
        yield "script", digest(*work.script)
    for name, value in work.env:
        yield f"{'argument' if name in work.args else 'variable'} {name}", digest(value)[:16]
    yield "user", work.user
    yield "workdir", work.workdir
    yield "network", work.network
    yield "security", "insecure" if work.insecure else "sandbox"
    for position, mount in enumerate(work.mounts, 1):
        yield f"mount {position}", mount_text(mount)
    for host in request.add_hosts:
        yield f"host {host.partition(':')[0].partition('=')[0]}", host
    for limit in request.ulimits:
        yield f"ulimit {limit.name}", f"{limit.soft}:{limit.hard}"
    if request.shm_size is not None:
        yield "shm size", str(request.shm_size)


def _copy_leaves(keyword: str, spec: CopySpec) -> tuple[Leaf, ...]:
    return (
        ("instruction", hidden(" ".join((keyword, *spec.sources, spec.dest)))),
        ("destination", digest(spec.dest, spec.workdir if not spec.dest.startswith("/") else "/")[:16]),
        ("chown", spec.chown or ""),
        ("chmod", spec.chmod or ""),
        ("options", f"parents={spec.parents} link={spec.link} exclude={digest(*spec.exclude)[:16]}"),
    )


def mount_text(mount: RunMount) -> str:
    """A mount as a leaf. What a cache, secret or agent holds is in no key; what a bind shows is another leaf."""
    fields = (mount.type, mount.target, mount.source, mount.id, str(mount.readonly), mount.sharing, str(mount.size))
    return ",".join((*fields, str(mount.mode), str(mount.uid), str(mount.gid), mount.env or ""))


def identity(step: StepSpec, own: Iterable[Leaf]) -> str:
    """What a step is called across builds: equal for the same instruction whatever it stands on and is given."""
    return digest("step", *(value for name, value in own if name in ("instruction", "argv", "destination")))


def stands_alone(step: StepSpec) -> bool:
    """Whether the files of *step* are the same whatever it stands on: COPY --link that looks no user up."""
    work = step.work
    if not isinstance(work, CopyStep | AddStep):
        return False
    spec = work.spec if isinstance(work, CopyStep) else work.spec.copy
    return spec.link and (spec.chown is None or spec.chown.replace(":", "").isdigit())


def footing(layer: str, below: str | None) -> str:
    """What stands on a layer compares the layer, which belongs to what it was made on. That of a step that stands alone
    may lie on anything: then this is compared, of it and of the footing *below*."""
    return f"sha256:{digest('footing', layer, below or EMPTY)}"


def place(step: StepSpec, description: str) -> str:
    """Where a step stands: to find what stood there in the build before when the instruction itself was changed."""
    return digest("place", description, step.stage, str(step.position))


def why(old: Mapping[str, str], new: Mapping[str, str], files: Sequence[str] = ()) -> str:
    """Which leaf changed, the most telling first; "" when none did. *files* are changed paths of the selection."""
    for name in (*new, *(name for name in old if name not in new)):
        if name in ("argv", "destination") or old.get(name) == new.get(name):
            continue
        if name in ("instruction", "script"):
            return "instruction changed"
        if name == "files":
            return _files_text(files) if files else "files of the context changed"
        return f"{_called(name)} {'changed' if name in old and name in new else 'added' if name in new else 'removed'}"
    return "instruction changed" if any(old.get(name) != new.get(name) for name in ("argv", "destination")) else ""


def _called(name: str) -> str:
    kind, _, rest = name.partition(" ")
    return {"argument": f"build arg {rest}", "variable": f"ENV {rest}"}.get(kind, name)


def changed_files(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[str, ...]:
    """What differs between two manifests, as sentences: changed contents first, then new and gone files."""
    changed = [
        f"{name.lstrip('/')} {_change(old[name], value)}" for name, value in new.items() if _differs(old, name, value)
    ]
    added = [f"{name.lstrip('/')} added" for name in new if name not in old]
    removed = [f"{name.lstrip('/')} removed" for name in old if name not in new]
    return (*changed, *added, *removed)


def _differs(old: Mapping[str, str], name: str, value: str) -> bool:
    return name in old and old[name] != value


def _change(old: str, new: str) -> str:
    """A leaf's value is "type mode owner content…": say which of them is another one."""
    for what, before, after in zip(("type", "mode", "owner"), old.split(" "), new.split(" "), strict=False):
        if before != after:
            return f"{what} changed"
    return "content changed"


def _files_text(files: Sequence[str]) -> str:
    more = len(files) - 1
    return files[0] + (f" and {more} more" if more else "")

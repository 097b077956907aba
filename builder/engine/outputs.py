"""Where the result of a build goes besides the store: a directory, a tar, an archive of the image.

Each output is a step of the build's progress. What fails here fails the build, but the image and its layers are made:
the next try finds everything in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from builder.engine.options.outputs import Output, OutputType
from builder.errors import OutputFailed
from builder.oci import digests
from builder.pipeline import progress
from runtime.values import replace

if TYPE_CHECKING:
    from datetime import datetime

    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.pipeline.progress import Emit, Event
    from builder.store.attestations import Predicate
    from builder.store.changesets import Sink
    from builder.store.images import Image

_NAMES = {
    OutputType.LOCAL: "exporting to client directory",
    OutputType.TAR: "exporting to client tarball",
    OutputType.OCI: "exporting to oci image format",
    OutputType.DOCKER: "exporting to docker image format",
    OutputType.REGISTRY: "pushing to registry",
}


class Listener:
    """Passes a build's events on, except its end: outputs come before that."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self.done: progress.BuildDone | None = None
        self.last = 0

    def __call__(self, event: Event) -> None:
        """Take one event."""
        if isinstance(event, progress.BuildDone):
            self.done = event
            return
        if isinstance(event, progress.BuildStarted):
            self.last = max((number for number, _ in event.steps), default=0)
        self._emit(event)

    @contextmanager
    def step(self, name: str, clock: Callable[[], datetime]) -> Iterator[int]:
        """What comes after the build's own steps, as one more; its number."""
        self.last += 1
        number = self.last
        self(progress.StepStarted(number, name, clock().timestamp()))
        try:
            yield number
        except BaseException as err:
            self(progress.StepFailed(number, name, clock().timestamp(), str(err) or type(err).__name__))
            raise
        self(progress.StepDone(number, name, clock().timestamp()))

    def finish(self, *, stored: bool) -> None:
        """Tell the end of the build."""
        assert self.done is not None, "the build has ended"
        self._emit(replace(self.done, stored=stored))


def export(
    engine: Engine,
    outputs: Sequence[Output],
    image_id: str,
    listener: Listener,
    where: tuple[Path, Sink | None],
    environment: Mapping[str, str],
    predicates: Sequence[Predicate] = (),
) -> Descriptor | None:
    """Write all `outputs` that are not the store; the descriptor of the last manifest that was written.

    `where` is the working directory and stdout, `environment` the user's, `predicates` what is attested.
    Raises OutputInTheWay, OutputFailed, StoreError, RegistryErrors, BrokenPipeError.
    """
    image = engine.store.images.get(digests.Digest(image_id))
    described: Descriptor | None = None
    written = (one for one in outputs if one.type is OutputType.REGISTRY or (one.type in _NAMES and not one.stored))
    for output in written:
        with listener.step(_NAMES[output.type], engine.clock) as number:
            try:
                if output.type is OutputType.REGISTRY:
                    described = _push(engine, output, image, listener, number, environment)
                else:
                    described = _write(engine, output, image, where, predicates) or described
            except BrokenPipeError:
                raise  # whoever read our stdout has had enough
            except OSError as err:
                raise OutputFailed(output.dest, err) from err
    return described


def _push(
    engine: Engine, output: Output, image: Image, listener: Listener, at: int, environment: Mapping[str, str]
) -> Descriptor | None:
    from builder.oci.references import Reference
    from builder.transfer.registry.progress import Message
    from builder.transfer.registry.push import push
    from builder.transfer.registry.session import Registries

    def told(message: Message) -> None:
        if message.total:
            what, now = f"pushing {message.id}", engine.clock().timestamp()
            listener(progress.StepProgress(at, what, message.current, message.total, "B", now))

    described: Descriptor | None = None
    references = [Reference.parse(name).tagged() for name in output.names]
    engine.store.images.tag_all(references, image.id)
    with Registries(environment) as registries:
        for reference in references:
            pushed = push(
                engine.store,
                registries,
                reference,
                emit=told,
                packing=output.packing,
                annotations=dict(output.manifest),
            )
            described = pushed.manifest
    return described


def _write(
    engine: Engine, output: Output, image: Image, where: tuple[Path, Sink | None], predicates: Sequence[Predicate]
) -> Descriptor | None:
    from builder.transfer import filesout

    cwd, stdout = where
    if output.type is OutputType.LOCAL:
        filesout.write_directory(engine.store, image.layers, cwd / output.dest)
        return None
    if output.type is OutputType.OCI and not output.tar:
        return _layout(engine, output, image, cwd / output.dest, predicates)
    if output.dest == "-":
        assert stdout is not None, "somebody who writes to stdout gives it"
        return _stream(engine, output, image, stdout, predicates)
    from builder.transfer.outfile import whole_file

    with whole_file(cwd / output.dest) as sink:
        return _stream(engine, output, image, sink, predicates)


def _stream(
    engine: Engine, output: Output, image: Image, sink: Callable[[bytes], object], predicates: Sequence[Predicate]
) -> Descriptor | None:
    from builder.transfer import filesout, layout

    if output.type is OutputType.TAR:
        filesout.write_tar(engine.store, image.layers, sink)
        return None
    return _layout(engine, output, image, layout.TarOut(sink), predicates)


def _layout(engine: Engine, output: Output, image: Image, out: object, predicates: Sequence[Predicate]) -> Descriptor:
    from builder.oci.references import Reference
    from builder.store.derived import DOCKER_MAX_LAYERS
    from builder.transfer import docker_archive, layout
    from builder.transfer.attested import Form

    most = output.most
    if most is None:
        most = DOCKER_MAX_LAYERS if output.type is OutputType.DOCKER else 0
    slim = docker_archive.at_most(engine.store, image, most)
    references = [Reference.parse(name).tagged() for name in output.names]
    annotations = layout.Annotations(dict(output.manifest), dict(output.descriptor))
    target = layout.DirectoryOut(out) if isinstance(out, Path) else out
    assert isinstance(target, layout.DirectoryOut | layout.TarOut)
    made = docker_archive.DockerArchive if output.type is OutputType.DOCKER else layout.Layout
    archive = made(engine.store, target)
    if isinstance(archive, layout.Layout):
        form = Form.ARTIFACT if output.artifact else Form.INDEX
        written = archive.add(
            slim, references, packing=output.packing, annotations=annotations, predicates=predicates, form=form
        )
    else:  # what docker loads has no place for attestations
        written = archive.add(slim, references, packing=output.packing, annotations=annotations)
    archive.close()
    return replace(
        written.descriptor, annotations={"config.digest": written.config.digest, **written.descriptor.annotations}
    )

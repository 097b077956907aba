"""Where the result of a build goes besides the store: a directory, a tar, an archive of the image.

Each output is a step of the build's progress. What fails here fails the build, but the image and its layers are made:
the next try finds everything in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from builder.engine.options.outputs import Output, OutputType, Place
from builder.errors import OutputFailed
from builder.pipeline import progress
from runtime.values import replace

if TYPE_CHECKING:
    from datetime import datetime

    from builder.engine.session import Engine
    from builder.oci.descriptors import Descriptor
    from builder.oci.digests import Digest
    from builder.pipeline.progress import Emit, Event
    from builder.pipeline.request import BuildResult, BuiltImage
    from builder.store.changesets import Sink
    from builder.store.images import Image
    from builder.store.snapshots import LayerID
    from builder.transfer.attested import Form
    from builder.transfer.filesout import Document
    from builder.transfer.layout import Annotations, Written
    from builder.transfer.registry.progress import Emit as TransferEmit
    from builder.transfer.registry.progress import Message

    Beside = Sequence[Sequence[tuple[str, bytes]]]

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
            cancelled = isinstance(err, KeyboardInterrupt)
            text = str(err) or type(err).__name__
            self(progress.StepFailed(number, name, clock().timestamp(), text, cancelled))
            raise
        self(progress.StepDone(number, name, clock().timestamp()))

    def transfer(self, number: int, clock: Callable[[], datetime]) -> TransferEmit:
        """What hears of a transfer that step `number` is: its bars are parts of the step."""

        def told(message: Message) -> None:
            if message.total:
                what, now = f"{message.status.lower()} {message.id}", clock().timestamp()
                self(progress.StepProgress(number, what, message.current, message.total, "B", now))

        return told

    def finish(self, *, stored: bool) -> None:
        """Tell the end of the build."""
        assert self.done is not None, "the build has ended"
        self._emit(replace(self.done, stored=stored))


def export(
    engine: Engine,
    outputs: Sequence[Output],
    result: BuildResult,
    listener: Listener,
    where: tuple[Path, Sink | None],
    environment: Mapping[str, str],
    beside: Beside = (),
) -> Descriptor | None:
    """Write all `outputs` that are not the store; the descriptor of the last manifest that was written.

    `where` is the working directory and stdout, `environment` the user's, `beside` what stands beside the files of each
    image where no image is written. Raises OutputInTheWay, OutputFailed, StoreError, RegistryErrors, BrokenPipeError.
    """
    described: Descriptor | None = None
    written = (one for one in outputs if one.type is OutputType.REGISTRY or (one.type in _NAMES and not one.stored))
    for output in written:
        with listener.step(_NAMES[output.type], engine.clock) as number:
            try:
                if output.type is OutputType.REGISTRY:
                    described = _push(engine, output, result, listener, number, environment)
                else:
                    described = _write(engine, output, result, where, beside) or described
            except BrokenPipeError:
                raise  # whoever read our stdout has had enough
            except OSError as err:
                raise OutputFailed(output.dest, err) from err
    return described


def _push(
    engine: Engine, output: Output, result: BuildResult, listener: Listener, at: int, environment: Mapping[str, str]
) -> Descriptor | None:
    from builder.oci.references import Reference
    from builder.transfer.registry.push import push
    from builder.transfer.registry.session import Registries

    described: Descriptor | None = None
    references = [Reference.parse(name).tagged() for name in output.names]
    image = _annotated(engine, output, result)
    if not output.by_digest:
        engine.store.images.tag_all(references, image)
    noted = any(one.place is Place.MANIFEST for one in output.annotations)
    insecure = [reference.registry for reference in references if output.insecure]
    with Registries(environment, insecure=insecure) as registries:
        for reference in references:
            pushed = push(
                engine.store,
                registries,
                reference,
                emit=listener.transfer(at, engine.clock),
                packing=output.packing,
                annotations=(lambda platform: output.noted(Place.MANIFEST, str(platform))) if noted else None,
                form=_form(output),
                untagged=image if output.by_digest else None,
            )
            described = pushed.manifest
    return described


def _annotated(engine: Engine, output: Output, result: BuildResult) -> Digest:
    """What was made; an index with the annotations that are for it, if there are any and it will be in one."""
    places = {one.place for one in output.annotations} - {Place.MANIFEST}
    if not places or not (result.indexed or engine.store.attestations.of(result.images[0].id)):
        return result.image_id
    from builder.store.indexes import Entry

    entries = [
        Entry(
            image.id,
            platform=image.platform,
            annotations=output.noted(Place.MANIFEST_DESCRIPTOR, str(image.platform)),
        )
        for image in result.images
    ]
    return engine.store.indexes.make(entries, annotations=output.noted(Place.INDEX))


def _form(output: Output) -> Form:
    from builder.transfer.attested import Form

    return Form.ARTIFACT if output.artifact else Form.INDEX


def _write(
    engine: Engine, output: Output, result: BuildResult, where: tuple[Path, Sink | None], beside: Beside
) -> Descriptor | None:
    from builder.transfer import filesout

    cwd, stdout = where
    if output.type is OutputType.LOCAL:
        files, more = _files(engine, output, result, beside)
        filesout.write_directory(engine.store, files, cwd / output.dest, more=more)
        return None
    if output.type is OutputType.OCI and not output.tar:
        return _layout(engine, output, result, cwd / output.dest)
    if output.dest == "-":
        assert stdout is not None, "somebody who writes to stdout gives it"
        return _stream(engine, output, result, stdout, beside)
    from builder.transfer.outfile import whole_file

    with whole_file(cwd / output.dest) as sink:
        return _stream(engine, output, result, sink, beside)


def _files(
    engine: Engine, output: Output, result: BuildResult, beside: Beside
) -> tuple[list[tuple[str, tuple[LayerID, ...]]], list[Document]]:
    """The layers of each platform, and the directory that its files go to: "linux_amd64", or "" for none; what stands
    beside them there, with the platform in its name where files of several are together.
    """
    split = result.indexed if output.split is None else output.split
    files: list[tuple[str, tuple[LayerID, ...]]] = []
    more: list[Document] = []
    for number, image in enumerate(result.images):
        platform = str(image.platform).replace("/", "_")
        files.append((platform if split else "", engine.store.images.layers(image.id)))
        for name, data in beside[number] if beside else ():
            path = PurePosixPath(name)
            own = f"{path.stem}.{platform}{path.suffix}" if result.indexed and not split else name
            more.append((files[-1][0], output.prefix + own, data))
    return files, more


def _stream(
    engine: Engine, output: Output, result: BuildResult, sink: Callable[[bytes], object], beside: Beside
) -> Descriptor | None:
    from builder.transfer import filesout, layout

    if output.type is OutputType.TAR:
        files, more = _files(engine, output, result, beside)
        filesout.write_tar(engine.store, files, sink, more=more)
        return None
    return _layout(engine, output, result, layout.TarOut(sink))


def _layout(engine: Engine, output: Output, result: BuildResult, out: object) -> Descriptor:
    from builder.oci.descriptors import DOCKER_INDEX, OCI_INDEX
    from builder.oci.references import Reference
    from builder.transfer import docker_archive, layout

    references = [Reference.parse(name).tagged() for name in output.names]
    target = layout.DirectoryOut(out) if isinstance(out, Path) else out
    assert isinstance(target, layout.DirectoryOut | layout.TarOut)
    if output.type is OutputType.DOCKER:  # one image, and what docker loads has no place for attestations
        archive = docker_archive.DockerArchive(engine.store, target)
        image, annotations = _member(engine, output, result.images[0])
        written = archive.add(image, references, packing=output.packing, annotations=annotations)
        archive.close()
        return _with_config(written)
    made = layout.Layout(engine.store, target)
    attested = [engine.store.attestations.of(one.id) for one in result.images]
    packing = replace(output.packing, docker=output.packing.docker and not any(attested))
    found = []
    attached: list[Descriptor] = []
    for one, predicates in zip(result.images, attested, strict=True):
        image, annotations = _member(engine, output, one)
        platform = one.platform if result.indexed else None
        written = made.write(image, packing=packing, annotations=annotations, platform=platform)
        found.append(written)
        attached += made.attach(written.descriptor, references, predicates, form=_form(output))
    if result.indexed or attached:
        described = made.add_index(
            (*(written.descriptor for written in found), *attached),
            references,
            media_type=DOCKER_INDEX if packing.docker else OCI_INDEX,
            annotations=layout.Annotations(output.noted(Place.INDEX), output.noted(Place.INDEX_DESCRIPTOR)),
        )
    else:
        made.note(found[0].descriptor, references)
        described = _with_config(found[0])
    made.close()
    return described


def _with_config(written: Written) -> Descriptor:
    described = written.descriptor
    return replace(described, annotations={"config.digest": written.config.digest, **described.annotations})


def _member(engine: Engine, output: Output, built: BuiltImage) -> tuple[Image, Annotations]:
    """An image with as many layers as the receiver takes, and what is to be noted of it."""
    from builder.store.derived import DOCKER_MAX_LAYERS
    from builder.transfer import docker_archive, layout

    most = output.most
    if most is None:
        most = DOCKER_MAX_LAYERS if output.type is OutputType.DOCKER else 0
    platform = str(built.platform)
    annotations = layout.Annotations(
        output.noted(Place.MANIFEST, platform), output.noted(Place.MANIFEST_DESCRIPTOR, platform)
    )
    return docker_archive.at_most(engine.store, engine.store.images.get(built.id), most), annotations

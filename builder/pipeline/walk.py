"""The walk through one stage: its instructions in order, with the variables and settings that hold at each.

Every word is expanded with the values from before its own instruction, once, here; what comes out are steps, lines of
history and settings without a "$" in them. `plan` calls this for each stage that the target needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.oci import mutate
from builder.pipeline import scope
from builder.pipeline.config_step import Settings, join_clean
from builder.pipeline.plan import HistoryLine
from builder.pipeline.steps import AddStep, Base, CopyStep, FilesOf, RunStep, StepSpec, Work, WorkdirStep
from parser import instructions as ast
from parser import words
from parser.redact import hidden
from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable

    from builder.oci.configs import ImageConfig
    from builder.oci.platforms import Platform
    from builder.pipeline.copy_step import CopySpec
    from builder.pipeline.plan import Planner
    from parser.graph import Stage
    from parser.mounts import RunMount
    from parser.source import Span
    from parser.syntax import Heredoc


@dataclass(slots=True)
class Walked:
    """A stage after its walk: what a stage FROM it starts with, or what the target's image is made of."""

    scope: scope.StageScope
    settings: Settings
    history: list[HistoryLine]
    last: int | None
    base: Base | None
    platform: Platform


def walk(planner: Planner, stage: Stage) -> Walked:
    """Walk *stage*; the stages that it needs have been walked. Raises DockerfileError, ImageNotFound."""
    return _Walk(planner, stage).run()


def template(walked: Walked) -> ImageConfig:
    """The image config that a walked stage ends with, without layers, history and times."""
    from builder.oci.configs import ContainerConfig, ImageConfig

    settings = walked.settings
    inherited = walked.base.config.config if walked.base else ContainerConfig()
    kept = ContainerConfig(stop_timeout=inherited.stop_timeout, args_escaped=settings.args_escaped)
    return ImageConfig(
        architecture=walked.platform.architecture,
        os=walked.platform.os,
        variant=walked.platform.variant,
        os_version=walked.platform.os_version,
        os_features=walked.platform.os_features,
        author=settings.author,
        config=settings.config(kept, settings.onbuild),
    )


class _Walk:
    """State of one walk; `do_NAME` handles the instruction NAME."""

    def __init__(self, planner: Planner, stage: Stage) -> None:
        self.planner = planner
        self.stage = stage
        self.commands = planner.commands[stage.index]
        self.span: Span = stage.from_.span
        self.label = (stage.name or f"stage-{stage.index}") if len(planner.graph.stages) > 1 else ""
        self.several = planner.request.indexed
        self.total = sum(isinstance(one, ast.Run | ast.Copy | ast.Add | ast.Workdir) for one, _ in self.commands)
        self.position = 0
        request = planner.request
        filters = {name.lower() for name in request.no_cache_filter}
        self.forced = request.no_cache or (bool(stage.name) and stage.name in filters)
        self.history: list[HistoryLine] = []
        self.last: int | None = None
        self.base: Base | None = None
        self.scope = scope.StageScope()
        self.settings = Settings()
        self.platform = planner.target_platform

    def run(self) -> Walked:
        self.start()
        self.settings.env.setdefault("PATH", scope.DEFAULT_PATH)
        self.scope.enter(self.settings.env)
        for instruction, triggered in self.commands:
            self.span = self.stage.from_.span if triggered else instruction.span
            with self.planner.at(self.span):
                self.one(instruction, triggered=triggered)
        return Walked(self.scope, self.settings, self.history, self.last, self.base, self.platform)

    # what the stage stands on

    def start(self) -> None:
        planner, stage = self.planner, self.stage
        tree = self.directory()
        if tree is not None:
            self.start_scratch()
            self.platform = planner.platform_of(stage) or planner.target_platform
            self.start_directory(tree)
            return
        below = planner.base_stage(stage) if planner.named_context(stage.name) is None else None
        if below is not None:
            walked = planner.walked[below.index]
            self.scope = scope.StageScope(walked.scope)
            self.settings = walked.settings.copy()
            self.history = list(walked.history)
            self.last, self.base, self.platform = walked.last, walked.base, walked.platform
            return
        image = planner.base_image(stage)
        if image is None:
            self.start_scratch()
            return
        self.base = image
        # What the image says counts, as for docker: it may be there for one platform only.
        stated = image.config.platform
        self.platform = stated if stated.architecture else planner.platform_of(stage) or planner.target_platform
        self.settings = settings_of(image.config)
        self.history = [HistoryLine(line.created_by, inherited=line) for line in mutate.complete(image.config).history]
        self.total += 1
        self.position = 1
        self.last = planner.add_base(image, self.shown_stage(), 1, self.total, stage.from_.span)

    def directory(self) -> str | None:
        """The name of the named context (a directory) that this stage is or stands on; None mostly."""
        names = [self.stage.name]
        if self.planner.named_context(self.stage.name) is None:
            if self.planner.base_stage(self.stage) is not None:
                return None
            names.append(self.planner.base_name(self.stage))
        for name in names:
            given = self.planner.named_context(name)
            if given is not None and not isinstance(given, str):
                return self.planner.context_key(name)
        return None

    def start_scratch(self) -> None:
        # Whatever FROM --platform says: nothing has the platform that is built for.
        self.platform = self.planner.target_platform
        self.settings.workdir = "/"

    def start_directory(self, name: str) -> None:
        from builder.pipeline.copy_step import CopySpec

        self.total += 1
        self.add(CopyStep(CopySpec(("/",), "/"), FilesOf(context=name)), f"FROM {name}", f"FROM {name}")

    # instructions

    def one(self, instruction: ast.Instruction, *, triggered: bool) -> None:
        settings = self.settings
        match instruction:
            case ast.Run():
                self.do_run(instruction, triggered=triggered)
            case ast.Copy() | ast.Add():
                self.do_copy(instruction, triggered=triggered)
            case ast.Workdir():
                self.do_workdir(instruction, triggered=triggered)
            case ast.Arg():
                self.do_arg(instruction)
            case ast.Env():
                pairs = [(self.expand(pair.key), self.expand(pair.value)) for pair in instruction.pairs]
                self.scope.env.update(pairs)
                self.note(settings.set_env(pairs))
            case ast.Label():
                self.note(
                    settings.set_labels((self.expand(pair.key), self.expand(pair.value)) for pair in instruction.pairs)
                )
            case ast.Cmd():
                self.note(settings.set_cmd(self.argv(instruction.command)))
            case ast.Entrypoint():
                self.note(settings.set_entrypoint(self.argv(instruction.command)))
            case ast.User():
                self.note(settings.set_user(self.expand(instruction.user)))
            case ast.Expose():
                self.do_expose(instruction)
            case ast.Volume():
                self.note(settings.add_volumes([self.expand(path) for path in instruction.paths]))
            case ast.Stopsignal():
                self.note(settings.set_stop_signal(self.expand(instruction.signal)))
            case ast.Shell():
                self.note(settings.set_shell(instruction.argv))
            case ast.Healthcheck():
                self.do_healthcheck(instruction)
            case ast.Onbuild():
                settings.onbuild.append(instruction.expression)
            case ast.Maintainer():
                self.note(settings.set_author(instruction.name))
            case ast.From():
                raise AssertionError("a stage has no FROM but its own")

    def do_arg(self, line: ast.Arg) -> None:
        texts = []
        for arg in line.args:
            value = self.scope.declare(
                arg.name, arg.default, self.planner.request.build_args, self.planner.globals, self.planner.expand
            )
            texts.append(arg.name if value is None else f"{arg.name}={value}")
        self.note("ARG " + " ".join(texts))

    def do_expose(self, line: ast.Expose) -> None:
        from parser.ports import parse_port

        escape = self.planner.dockerfile.directives.escape
        specs = [word for port in line.ports for word in words.expand_words(port, self.scope.env, escape=escape)]
        self.note(self.settings.expose([port for spec in specs for port in parse_port(spec)]))

    def do_healthcheck(self, line: ast.Healthcheck) -> None:
        from builder.oci.configs import Healthcheck

        check = Healthcheck(
            line.test, line.interval, line.timeout, line.start_period, line.start_interval, line.retries
        )
        self.note(self.settings.set_healthcheck(check))

    def do_workdir(self, line: ast.Workdir, *, triggered: bool) -> None:
        path, created_by = self.settings.set_workdir(self.expand(line.path))
        if path == "/":
            self.position += 1
            self.note(created_by)
        else:
            work = WorkdirStep(join_clean("/", path), self.settings.user)
            self.add(work, self.shown(line, triggered=triggered), created_by, may_force=False)

    def do_copy(self, line: ast.Copy | ast.Add, *, triggered: bool) -> None:
        from builder.pipeline.add_step import AddSpec

        spec = self.copy_spec(line)
        created_by = self.copy_history(line, spec)
        text = self.shown(line, triggered=triggered)
        if isinstance(line, ast.Copy):
            source = FilesOf(context="")
            if line.from_ is not None:
                source = self.planner.files_of(self.stage, line.from_, self.span)
            self.add(CopyStep(spec, source), text, created_by)
        else:
            checksum = None if line.checksum is None else self.expand(line.checksum)
            add = AddSpec(spec, checksum, line.keep_git_dir, line.unpack)
            self.add(AddStep(add, FilesOf(context="")), text, created_by)

    def copy_spec(self, line: ast.Copy | ast.Add) -> CopySpec:
        from builder.pipeline.copy_step import CopySpec, InlineFile

        chmod = None if line.chmod is None else self.expand(line.chmod)
        return CopySpec(
            sources=tuple(map(self.expand, line.sources)),
            dest=self.expand(line.dest),
            workdir=self.workdir,
            chown=None if line.chown is None else self.expand(line.chown),
            chmod=chmod,
            parents=isinstance(line, ast.Copy) and line.parents,
            link=line.link and not chmod,  # docker's --chmod makes an ordinary copy of it
            exclude=line.exclude,
            inline=tuple(InlineFile(one.name, self.inline(one)) for one in line.heredocs),
        )

    def inline(self, heredoc: Heredoc) -> bytes:
        text = words.process_document(heredoc.text, self.scope.env).text if heredoc.expand else heredoc.text
        return text.encode("utf-8", "surrogateescape")

    def copy_history(self, line: ast.Copy | ast.Add, spec: CopySpec) -> str:
        parts = ["COPY" if isinstance(line, ast.Copy) else "ADD"]
        if spec.parents:
            parts.append("--parents")
        if spec.chown:
            parts.append(f"--chown={spec.chown}")
        if spec.chmod:
            parts.append(f"--chmod={spec.chmod}")
        parts += [*spec.sources, *(f"<<{one.name}" for one in spec.inline), spec.dest, "# buildkit"]
        return hidden(" ".join(parts))

    def do_run(self, line: ast.Run, *, triggered: bool) -> None:
        from builder.pipeline.mounts import check_network, check_security, resolve_mounts

        request = self.planner.request
        argv, script, summary = self.run_argv(line.command)
        mounts = resolve_mounts(line.mounts, self.expand, workdir=self.workdir)
        args = self.scope.run_args()
        work = RunStep(
            argv=argv,
            env=tuple(self.scope.env.items()),
            platform=self.platform,
            args=frozenset(name for name, _ in args),
            proxies=scope.proxy_environment({**request.proxies, **request.build_args}),
            user=self.settings.user,
            workdir=self.workdir,
            network=check_network(line.network, request),
            insecure=check_security(line.security, request),
            script=script,
            mounts=mounts,
            sources=tuple(map(self.mount_files, mounts)),
        )
        listed = (f"|{len(args)}", *(f"{name}={value}" for name, value in args)) if args else ()
        created_by = hidden(" ".join(("RUN", *listed, *argv, "# buildkit")))
        self.add(work, self.shown(line, triggered=triggered) + summary, created_by)

    def mount_files(self, mount: RunMount) -> FilesOf | None:
        """Where the files of a mount come from; None for those that have none."""
        if mount.from_ and mount.type in ("bind", "cache"):
            return self.planner.files_of(self.stage, mount.from_, self.span)
        return FilesOf(context="") if mount.type == "bind" else None

    def run_argv(self, command: ast.Command) -> tuple[tuple[str, ...], tuple[str, str] | None, str]:
        """(argv, heredoc script to put into a file, what to add to the progress line)."""
        if isinstance(command, ast.ExecForm):
            return command.argv, None, ""
        if not command.heredocs:
            return self.settings.in_shell(command.script), None, ""
        first = command.heredocs[0]
        if not is_heredoc_only(command.script):
            # The shell reads the heredocs itself, so the line is put together again as it was.
            text = command.script + "".join(f"\n{one.content}{one.name}" for one in command.heredocs)
            return self.settings.in_shell(text), None, ""
        lines = first.content.strip().splitlines() or [""]
        summary = f" ({lines[0]}{'...' if len(lines) > 1 else ''})"
        if first.text.startswith("#!"):
            return self.settings.in_shell(f"/dev/pipes/{first.name}"), (first.name, first.text), summary
        return self.settings.in_shell(first.text), None, summary

    # helpers

    @property
    def workdir(self) -> str:
        """WORKDIR without what is only spelling."""
        return join_clean("/", self.settings.workdir)

    def expand(self, word: str) -> str:
        return self.planner.expand(word, self.scope.env)

    def argv(self, command: ast.Command) -> tuple[str, ...]:
        return command.argv if isinstance(command, ast.ExecForm) else self.settings.in_shell(command.script)

    def shown(self, line: ast.Run | ast.Copy | ast.Add | ast.Workdir, *, triggered: bool) -> str:
        keyword, _, rest = line.original.strip().partition(" ")
        return hidden(f"{'ONBUILD ' if triggered else ''}{keyword.upper()} {rest}".rstrip())

    def shown_stage(self, *, crossed: bool = False) -> str:
        """The stage as BuildKit names it: "build", "linux/arm64 build", or "linux/amd64->arm64 build" where it works
        for another platform than its own and has declared the arguments that say so."""
        if not self.several:
            return self.label
        shown = str(self.platform)
        env = self.scope.env
        if crossed and ("TARGETPLATFORM" in env or "TARGETARCH" in env or "TARGETOS" in env):
            target = self.planner.target_platform
            if target.os != self.platform.os:
                shown += f"->{target}"
            elif target.architecture != self.platform.architecture:
                shown += "->" + str(target).partition("/")[2]
        return f"{shown} {self.label}".rstrip()

    def note(self, created_by: str) -> None:
        self.history.append(HistoryLine(created_by))

    def add(self, work: Work, text: str, created_by: str, *, may_force: bool = True) -> None:
        self.position += 1
        self.last = self.planner.steps.add(
            StepSpec(
                number=0,
                work=work,
                parent=self.last,
                inputs=inputs_of(work),
                stage=self.shown_stage(crossed=True),
                position=self.position,
                total=self.total,
                text=text,
                created_by=created_by,
                span=self.span,
                forced=self.forced and may_force,
            )
        )
        self.history.append(HistoryLine(created_by, step=self.last))


def inputs_of(work: Work) -> tuple[int, ...]:
    """The numbers of the steps that *work* reads files from, apart from its parent."""
    sources: Iterable[FilesOf | None] = ()
    if isinstance(work, RunStep):
        sources = work.sources
    elif isinstance(work, CopyStep):
        sources = (work.source,)
    return tuple(dict.fromkeys(one.step for one in sources if one is not None and one.step is not None))


def settings_of(config: ImageConfig) -> Settings:
    """The settings that a stage FROM an image with *config* starts with."""
    start, settings = config.config, Settings()
    for pair in start.env:
        name, _, value = pair.partition("=")
        settings.env[name] = value
    settings.labels = dict(start.labels)
    settings.ports = dict.fromkeys(start.exposed_ports)
    settings.volumes = dict.fromkeys(start.volumes)
    settings.cmd = start.cmd or ()
    settings.entrypoint = start.entrypoint or ()
    settings.shell = start.shell or ()
    settings.healthcheck = start.healthcheck
    settings.user = start.user
    if start.working_dir:
        settings.set_workdir(start.working_dir)
    settings.stop_signal = start.stop_signal
    settings.author = config.author
    settings.args_escaped = start.args_escaped
    return settings


def is_heredoc_only(script: str) -> bool:
    """Whether *script* is nothing but the mark of one heredoc: `<<EOF`, `3<<-"EOF"`."""
    mark = script.strip().lstrip("0123456789")
    if not mark.startswith("<<"):
        return False
    name = mark[2:].removeprefix("-")
    return bool(name) and "<" not in name and len(words.expand_words(name, {})) == 1

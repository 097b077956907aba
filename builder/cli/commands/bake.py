"""bake: the targets of docker-bake and compose files, built as one graph."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from builder.cli.flags import INT, OPTIONAL, Command, Flag, UsageError, Values, many, parse, switch
from builder.cli.progress import PROGRESS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cli.context import Cli
    from builder.engine.bake.definition import Config
    from builder.engine.bake.files import BakeFile
    from builder.engine.bake.resolve import Wanted
    from builder.engine.bake.run import Build
    from builder.engine.bake.target import Target

FLAGS = (
    many("allow", "Allow build to access specified resources", word="stringArray"),
    Flag("builder", "Override the configured builder instance"),
    Flag("call", 'Set method for evaluating build ("check", "outline", "targets")', default="build"),
    switch("check", 'Shorthand for "--call=check"'),
    many("file", "Build definition file", short="f", word="stringArray", complete="file"),
    Flag("jobs", "Maximum number of concurrent targets (0 for unlimited)", short="j", kind=INT, default=0),
    Flag("list", "List targets or variables", complete="targets variables"),
    switch("list-targets", "List available targets", hidden=True),
    switch("list-variables", "List defined variables", hidden=True),
    switch("load", 'Shorthand for "--set=*.output=type=docker". Conditional.'),
    Flag("metadata-file", "Write build result metadata to a file", complete="file"),
    switch("no-cache", "Do not use cache when building the image"),
    switch("print", "Print the options without building"),
    PROGRESS,
    Flag("provenance", 'Shorthand for "--set=*.attest=type=provenance"', kind=OPTIONAL, implied="true"),
    switch("pull", "Always attempt to pull all referenced images"),
    switch("push", 'Shorthand for "--set=*.output=type=registry". Conditional.'),
    Flag("sbom", 'Shorthand for "--set=*.attest=type=sbom"', kind=OPTIONAL, implied="true"),
    many("set", 'Override target value (e.g., "targetpattern.key=value")', word="stringArray"),
    many("var", 'Set a variable value (e.g., "name=value")', word="stringArray"),
)


def bake(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Build the targets, or print or list them."""
    from builder.errors import BakeError

    if values.on("print") and values.given("list"):
        cli.say("ERROR: --print and --list are mutually exclusive")
        return 1
    try:
        with ExitStack() as undo:
            return _Bake(cli, values, undo).run(arguments)
    except BakeError as err:
        if err.excerpt:
            cli.say(err.excerpt)
        cli.say(f"ERROR: {err.message}" + (f"\nhint: {err.hint}" if err.hint else ""))
        return 1


class _Bake:
    """One invocation. `directory` is where relative paths of the definition begin: the user's, or a checkout."""

    def __init__(self, cli: Cli, values: Values, undo: ExitStack) -> None:
        self.cli = cli
        self.values = values
        self.undo = undo
        self.directory = cli.cwd
        self.remote = False
        self.context = "cwd://"

    def run(self, arguments: list[str]) -> int:
        from builder.engine.bake import arguments as a

        names = list(arguments)
        if names and a.is_remote(names[0]):
            self.remote = True
            self.directory = self.checkout(names.pop(0))
            if names and a.is_remote(names[0]):
                self.context = names.pop(0)
        config = self.config(self.read())
        kind = self.values.text("list")
        if self.values.on("list-targets"):
            kind = "targets"
        elif self.values.on("list-variables"):
            kind = "variables"
        if kind:
            return _list(self.cli, kind, config)
        wanted = self.wanted(config, names)
        if self.values.on("print"):
            from builder.engine.bake.target import document

            self.cli.out(document(wanted.groups, wanted.targets))
            return 0
        self.grant(wanted)
        called = tuple(target for target in wanted.targets if target.text("call") not in ("", "build"))
        if all(target.linked or target in called for target in wanted.targets):
            return self.call(wanted)
        from runtime.values import replace

        # who asks for a build gets it, with what it stands on
        built = tuple(target for target in wanted.targets if target.linked or target not in called)
        code = self.build(replace(wanted, targets=built))
        return code if code or not called else self.call(replace(wanted, targets=called))

    # definition

    def checkout(self, url: str) -> Path:
        """The directory of a remote definition."""
        from builder.engine.bake.remote import checkout

        return checkout(self.cli.engine, url, self.undo, cwd=self.cli.cwd, environment=self.cli.env)

    def read(self) -> list[BakeFile]:
        """The files that --file names, or those that are there."""
        from builder.engine.bake.files import DEFAULTS, BakeFile
        from builder.errors import BakeError

        named = list(self.values.all("file"))
        if not named and self.cli.env.get("BUILDX_BAKE_FILE"):
            separator = self.cli.env.get("BUILDX_BAKE_PATH_SEPARATOR") or os.pathsep
            named = [name.strip() for name in self.cli.env["BUILDX_BAKE_FILE"].split(separator) if name.strip()]
        found = []
        for name in named or DEFAULTS:
            local = name.removeprefix("cwd://")
            if name == "-":
                data = self.cli.raw_in().read()
            else:
                place = (self.cli.cwd if name != local or not self.remote else self.directory) / local
                try:
                    data = place.read_bytes()
                except FileNotFoundError:
                    if not named:
                        continue
                    raise BakeError(f"open {local}: no such file or directory") from None
                except OSError as err:
                    raise BakeError(f"open {local}: {err.strerror}") from None
            found.append(BakeFile(local, data.decode("utf-8", "surrogateescape")))
        if not found:
            raise BakeError(
                "couldn't find a bake definition", hint=f"-f names a file; looked for are {', '.join(DEFAULTS)}"
            )
        return found

    def config(self, files: list[BakeFile]) -> Config:
        """What the files define, seen with our environment."""
        import uuid

        from builder.engine.bake.definition import Ambient
        from builder.engine.bake.files import config
        from builder.oci import platforms

        given = self.given()
        allowed = self.cli.env.get("BUILDX_BAKE_DISABLE_VARS_ENV_LOOKUP", "") not in ("1", "true", "TRUE", "True", "t")
        env = {**(self.cli.env if allowed else {}), **given}
        ambient = Ambient(
            lookup=env.get,
            builtins={
                "BAKE_CMD_CONTEXT": self.context,
                "BAKE_LOCAL_PLATFORM": str(platforms.host(os.uname().machine)),
            },
            now=self.cli.now(),
            home=self.cli.env.get("HOME", ""),
            uuid=lambda: str(uuid.uuid4()),
        )
        return config(files, ambient, self.compose_environment(env))

    def given(self) -> dict[str, str]:
        """The variables of --var."""
        from builder.errors import BakeError

        found = {}
        for text in self.values.all("var"):
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise BakeError(f'invalid variable "{text}", expected key=value')
            found[name] = value
        return found

    def compose_environment(self, env: Mapping[str, str]) -> Mapping[str, str]:
        """*env* on top of what .env says."""
        from builder.engine.bake.interpolate import dotenv

        try:
            text = (self.cli.cwd / ".env").read_text("utf-8", "surrogateescape")
        except (FileNotFoundError, IsADirectoryError):
            return env
        return {**dotenv(text, env, name=".env"), **env}

    def wanted(self, config: Config, names: list[str]) -> Wanted:
        """The targets to build, as flags and files say."""
        from builder.engine.bake.arguments import cleaned
        from builder.engine.bake.resolve import resolve
        from runtime.values import replace

        found = resolve(config, names, self.overrides(), self.cli.env.get)
        targets = tuple(cleaned(target, remote=self.remote) for target in found.targets)
        epoch = self.cli.env.get("SOURCE_DATE_EPOCH", "")
        if epoch:
            targets = tuple(
                target.with_({"args": {"SOURCE_DATE_EPOCH": epoch, **target.map("args")}}) for target in targets
            )
        return replace(found, targets=targets)

    def overrides(self) -> list[str]:
        """--set, and the flags that are short for one."""
        values, made = self.values, list(self.values.all("set"))
        for name in ("push", "load"):
            if values.on(name):
                made.append(f"*.{name}=true")
        call = "check" if values.on("check") else values.text("call")
        if call != "build":
            from builder.cli import calls

            made.append(f"*.call={calls.parse(call).method}")
        for name in ("no-cache", "pull"):
            if values.given(name):
                made.append(f"*.{name}={'true' if values.on(name) else 'false'}")
        for name in ("sbom", "provenance"):
            text = values.text(name)
            if text:
                made.append(f"*.attest=type={name}" + {"true": "", "false": ",disabled=true"}.get(text, f",{text}"))
        return made

    def grant(self, wanted: Wanted) -> None:
        """Ask for privileges that were not allowed. Raises BakeError without a terminal, or when the answer is no."""
        from builder.engine.bake.entitlements import missing
        from builder.errors import BakeError

        files = self.cli.env.get("BUILDX_BAKE_ENTITLEMENTS_FS", "") not in ("0", "false", "FALSE", "False", "f")
        asked = missing(wanted, self.values.all("allow"), self.directory, self.cli.cwd, files=files)
        if not asked:
            return
        flags = " ".join(f"--allow {one}" for one in asked)
        if self.cli.terminal_in() and self.cli.terminal_err():
            self.cli.say(f"Your build is requesting privileges that were not allowed:\n  {flags}")
            if self.cli.confirm("Do you want to grant requested privileges and continue?"):
                return
        raise BakeError("additional privileges requested", hint=f"pass {flags} to grant requested privileges")

    # doing it

    def flags(self, target: Target) -> tuple[Values, list[str]]:
        """The flags and arguments of `build` that say what *target* says."""
        from builder.cli.commands.build import FLAGS as BUILD_FLAGS
        from builder.engine.bake.arguments import options

        return parse(BUILD_FLAGS, options(target, here=self.cli.cwd), stop_at_argument=False)

    def builds(self, wanted: Wanted) -> dict[str, Build]:
        """Every target as a build that can start. Raises BakeError for what `build` cannot do."""
        from builder.cli.commands.build import wish
        from builder.engine.bake.arguments import links
        from builder.engine.bake.run import Build
        from builder.errors import BakeError, InvalidInput
        from runtime.values import replace

        made = {}
        for target in wanted.targets:
            try:
                asked = wish(self.cli, *self.flags(target))
            except (UsageError, InvalidInput) as err:
                raise BakeError(f"target {target.name}: {err}", hint=getattr(err, "hint", None)) from None
            # the definition's files may be elsewhere, but what comes out is the user's
            outputs = tuple(
                replace(one, dest=str(self.cli.cwd / one.dest)) if one.dest not in ("", "-") else one
                for one in asked.outputs
            )
            inline = target.text("dockerfile-inline") or None
            made[target.name] = Build(replace(asked, cwd=self.directory, outputs=outputs), inline, links(target))
        return made

    def build(self, wanted: Wanted) -> int:
        """Build, show the progress on stderr."""
        from builder.cli.build_view import Closing, explain, progress_view, pull_view
        from builder.cli.commands.cache import keep_to_limit
        from builder.cli.progress import progress_mode
        from builder.cli.progress.many import Many
        from builder.engine.bake.run import TargetFailed, build_all

        mode = progress_mode(self.cli, self.values)
        builds = self.builds(wanted)
        view = progress_view(self.cli, mode)
        with Closing(self.cli, view, None, tell=mode not in ("quiet", "rawjson")) as closing:
            try:
                emit = Many(closing, targets=len(builds))
                pulling = pull_view(self.cli, mode)
                results = build_all(
                    self.cli.engine,
                    builds,
                    emit,
                    stdout=self.cli.raw_out().write,
                    pulling=pulling,
                    jobs=max(self.values.number("jobs") or 0, 0),
                )
            except KeyboardInterrupt:
                closing.close()
                self.cli.say("ERROR: failed to solve: Canceled: context canceled")
                return 130
            except TargetFailed as err:
                closing.close()
                explain(self.cli, err.cause, closing, what=f"target {err.name}")
                return 1
        if self.values.text("metadata-file"):
            from builder.cli.build_outputs import metadata, warnings_document, write_document

            documents: dict[str, object] = {name: metadata(built) for name, built in sorted(results.items())}
            documents |= warnings_document(self.cli, closing.warnings)
            write_document(self.cli.cwd / self.values.text("metadata-file"), documents)
        if any(built.result.ran for built in results.values()):
            keep_to_limit(self.cli)
        return 0

    def call(self, wanted: Wanted) -> int:
        """Evaluate each target's Dockerfile instead of building it; the code is that of the first with a finding."""
        from io import BytesIO

        from builder.cli import calls
        from builder.engine.bake.target import described, go_json, printed

        asked = calls.parse("check" if self.values.on("check") else self.values.text("call"))
        builds, code, lead = self.builds(wanted), 0, ""
        documents: dict[str, dict[str, object]] = {one.name: {"build": printed(one)} for one in wanted.targets}
        for target in sorted(wanted.targets, key=lambda one: one.name):
            call = calls.parse(target.text("call") or "build")._replace(ignore_status=asked.ignore_status)
            if call.method == "build":
                continue
            build = builds[target.name]
            inline = None if build.inline is None else BytesIO(build.inline.encode("utf-8", "surrogateescape"))
            if asked.json:
                documents[target.name][call.method], found = calls.document(build.wish, call, self.cli, inline=inline)
            else:
                self.cli.out(f"{lead}{target.name}")
                self.cli.out(f"{target.text('description')}\n" if target.text("description") else "")
                found, lead = calls.run(self.cli, build.wish, call, inline=inline), "\n"
            code = code or found
        if asked.json:
            self.cli.out(go_json(described(wanted.groups, documents)))
        return code


def _list(cli: Cli, text: str, config: Config) -> int:
    """--list=targets, --list=type=variables,format=json"""
    kind, layout = _listing(text)
    if kind == "targets":
        rows = _targets(config)
        table: list[tuple[object, ...]] = [("TARGET", "DESCRIPTION")]
        table += [(one["name"], one.pop("shown")) for one in rows]
    else:
        rows = [
            {"name": one.name, "type": one.type, "value": one.value, "description": one.description}
            for one in sorted(config.variables, key=lambda one: one.name)
        ]
        table = [("VARIABLE", "TYPE", "VALUE", "DESCRIPTION")]
        table += [
            (one["name"], one["type"], "<null>" if one["value"] is None else one["value"], one["description"])
            for one in rows
        ]
    if layout == "json":
        from builder.engine.bake.target import go_json

        cli.out(go_json([{key: value for key, value in row.items() if value not in ("", None, False)} for row in rows]))
        return 0
    from builder.cli.tables import aligned

    for line in aligned([list(map(str, row)) for row in table]):
        cli.out(line.rstrip())
    return 0


def _targets(config: Config) -> list[dict[str, object]]:
    """What may be built, without the targets and groups whose names say that they are private."""
    rows: list[dict[str, object]] = []
    for target in config.targets:
        description = target.text("description")
        rows.append({"name": target.name, "description": description, "shown": description})
    for group in config.groups:
        members = ", ".join(sorted(group.targets))
        shown = f"{group.description} ({members})" if group.description and members else group.description or members
        rows.append({"name": group.name, "description": group.description, "group": True, "shown": shown})
    return sorted((row for row in rows if not str(row["name"]).startswith("_")), key=lambda row: str(row["name"]))


def _listing(text: str) -> tuple[str, str]:
    from builder.errors import BakeError

    fields = {"type": text} if "=" not in text else {}
    for field in text.split(",") if not fields else ():
        key, equals, value = field.partition("=")
        if not equals:
            raise BakeError(f"invalid value {field}")
        if key.strip().lower() not in ("type", "format"):
            raise BakeError(f"unexpected key '{key}' in '{field}'")
        fields[key.strip().lower()] = value
    kind, layout = fields.get("type", ""), fields.get("format", "table")
    if kind not in ("targets", "variables"):
        raise BakeError(f'invalid list type "{kind}"', hint="types are targets, variables")
    if layout not in ("table", "json"):
        raise BakeError(f'invalid list format "{layout}"', hint="formats are table, json")
    return kind, layout


COMMANDS = {
    "bake": Command(
        "[OPTIONS] [TARGET...]",
        "Build from a file",
        bake,
        flags=FLAGS,
        aliases="lamina bake, lamina buildx bake, lamina buildx f",
    )
}

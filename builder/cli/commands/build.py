"""build: from a Dockerfile to an image, with docker's and buildx's options."""

from __future__ import annotations

import sys

from builder.cli import repeats
from builder.cli.flags import CSV, INT, OPTIONAL, Command, Flag, UsageError, Values, many, switch
from builder.cli.progress import PROGRESS, progress_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from builder.cli.context import Cli
    from builder.engine.builds import BuildWish, Built
    from builder.engine.options.attestations import AttestationWish
    from builder.engine.options.caches import CacheSpec
    from builder.engine.options.outputs import Output
    from builder.pipeline.progress import BuildWarning

FLAGS = (
    many("add-host", "Add a custom host-to-IP mapping (format: host:ip)"),
    many("allow", "Allow extra privileged entitlement (network.host, security.insecure)", word="stringArray"),
    many("annotation", "Add annotation to the image", word="stringArray"),
    many("attest", "Attestation parameters (format: type=sbom,generator=image)", word="stringArray"),
    many("build-arg", "Set build-time variables", word="stringArray"),
    many("build-context", "Additional build contexts (e.g., name=path)", word="stringArray"),
    Flag("builder", "Override the configured builder instance"),
    many("cache-from", "External cache sources", word="stringArray"),
    many("cache-to", "Cache export destinations", word="stringArray"),
    Flag(
        "call",
        'Set method for evaluating build (check, outline, targets; with ",format=json" or ",ignorestatus=true")',
        default="build",
        complete="build check outline targets",
    ),
    Flag("cgroup-parent", "Set the parent cgroup for RUN instructions"),
    switch("check", "Shorthand for --call=check"),
    switch("compress", "Compress the build context using gzip", hidden=True),
    Flag("cpu-period", "Limit the CPU CFS (Completely Fair Scheduler) period", kind=INT),
    Flag("cpu-quota", "Limit the CPU CFS (Completely Fair Scheduler) quota", kind=INT),
    Flag("cpu-shares", "CPU shares (relative weight)", short="c", kind=INT),
    Flag("cpuset-cpus", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "MEMs in which to allow execution (0-3, 0,1)"),
    switch("debug", "Enable debug logging", short="D"),
    Flag("file", 'Name of the Dockerfile (default: "PATH/Dockerfile")', short="f", complete="file"),
    switch("force-rm", "Always remove intermediate containers", hidden=True),
    Flag("iidfile", "Write the image ID to a file", complete="file"),
    Flag("isolation", "Container isolation technology", hidden=True),
    many("label", "Set metadata for an image", word="stringArray"),
    switch("load", 'Shorthand for "--output=type=docker"'),
    Flag("max-layers", "Merge the smallest adjacent layers until the image has at most this many (0: never)", kind=INT),
    Flag("memory", "Memory limit", short="m", word="bytes"),
    Flag("memory-swap", "Swap limit equal to memory plus swap: -1 to enable unlimited swap", word="bytes"),
    Flag("metadata-file", "Write build result metadata to a file", complete="file"),
    Flag("network", "Set the networking mode for the RUN instructions", default="default"),
    switch("no-cache", "Do not use cache when building the image"),
    Flag("no-cache-filter", "Do not cache specified stages", kind=CSV),
    many("output", 'Output destination (format: "type=local,dest=path")', short="o", word="stringArray"),
    Flag("platform", "Set target platform for build", kind=CSV),
    PROGRESS,
    many("policy", "Policy configuration (format: disabled=true)", word="stringArray"),
    Flag("provenance", 'Shorthand for "--attest=type=provenance"', kind=OPTIONAL, implied="true"),
    switch("pull", "Always attempt to pull all referenced images"),
    switch("push", 'Shorthand for "--output=type=registry,unpack=false"'),
    switch("quiet", "Suppress the build output and print image ID on success", short="q"),
    many("resource", "Limit a resource of the RUN steps (format: memory=512m[,cpu-quota=50000])", word="stringArray"),
    switch("rm", "Remove intermediate containers after a successful build", default=True, hidden=True),
    Flag("sbom", 'Shorthand for "--attest=type=sbom"', kind=OPTIONAL, implied="true"),
    many("secret", 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")', word="stringArray"),
    many("security-opt", "Security options", hidden=True),
    Flag("shm-size", "Shared memory size for build containers", word="bytes"),
    switch("squash", "Squash newly built layers into a single new layer"),
    many(
        "ssh", 'SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>]")', word="stringArray"
    ),
    many("tag", 'Image identifier (format: "[registry/]repository[:tag]")', short="t", word="stringArray"),
    Flag("target", "Set the target build stage to build"),
    many("ulimit", "Ulimit options", word="ulimit"),
)

_ENTITLEMENTS = ("network.host", "security.insecure")


def wish(cli: Cli, values: Values, arguments: list[str], asked: str = "") -> BuildWish:
    """What the options ask for; `asked`: see BuildRequest.  Raises UsageError, InvalidInput."""
    from builder.cli.clientconfig import proxies
    from builder.engine.builds import BuildWish

    _check(cli, values)
    platforms = values.all("platform") or tuple(filter(None, cli.env.get("DOCKER_DEFAULT_PLATFORM", "").split(",")))
    # as buildx does: the environment's goes into the build, a --build-arg wins
    build_args = {name: cli.env[name] for name in ("SOURCE_DATE_EPOCH",) if cli.env.get(name)}
    for text in values.all("build-arg"):
        name, equals, value = text.partition("=")
        inherited = value if equals else cli.env.get(name)
        if inherited is not None:
            build_args[name] = inherited
    return BuildWish(
        source=arguments[0] if arguments else ".",
        dockerfile=values.text("file") or None,
        build_args=build_args,
        contexts=tuple(named_context(text) for text in values.all("build-context")),
        target=values.text("target"),
        tags=values.all("tag"),
        labels=_labels(values),
        pull=values.on("pull"),
        no_cache=values.on("no-cache"),
        no_cache_filter=values.all("no-cache-filter"),
        network=values.text("network"),
        add_hosts=_add_hosts(values),
        **_limits(values),
        cgroup_parent=values.text("cgroup-parent"),
        platforms=platforms,
        secrets=tuple(_secret(cli, text) for text in values.all("secret")),
        ssh=tuple(_ssh(cli, text) for text in values.all("ssh")),
        allow=frozenset(values.all("allow")),
        environment=cli.env,
        proxies=proxies(cli.env),
        cwd=cli.cwd,
        outputs=_outputs(cli, values),
        cache_from=_caches(values, "cache-from"),
        cache_to=_caches(values, "cache-to"),
        squash=values.on("squash"),
        max_layers=max(values.number("max-layers") or 0, 0),
        asked=asked,
        attestations=_attestations(values),
    )


def _attestations(values: Values) -> AttestationWish | None:
    if not any(values.given(name) for name in ("attest", "sbom", "provenance")):
        return None
    from builder.engine.options import attestations as notation

    texts = [text for text in values.all("attest") if text]
    texts += [notation.canonical(kind, values.text(kind)) for kind in notation.Kind if values.text(kind)]
    return notation.parse(texts)


def _caches(values: Values, flag: str) -> tuple[CacheSpec, ...]:
    if not values.given(flag):
        return ()
    from builder.engine.options.caches import parse_from, parse_to

    return tuple(map(parse_from if flag == "cache-from" else parse_to, values.all(flag)))


def _outputs(cli: Cli, values: Values) -> tuple[Output, ...]:
    if not any(values.given(name) for name in ("output", "load", "push", "annotation")):
        return ()
    from builder.cli.build_outputs import outputs

    return outputs(cli, values)


def _check(cli: Cli, values: Values) -> None:
    """What is not there is refused where the result would be another, and else said.  Raises UsageError."""
    if values.text("isolation") not in ("", "default"):
        raise UsageError("--isolation: isolation technologies are for Windows; leave it out")
    for entitlement in values.all("allow"):
        if entitlement not in _ENTITLEMENTS:
            raise UsageError(f"--allow: unknown entitlement {entitlement}; there are {', '.join(_ENTITLEMENTS)}")
    for policy in values.all("policy"):
        if policy.replace(" ", "") != "disabled=true":
            raise UsageError("--policy: source policies are not supported, so nothing would be checked")
    for option in values.all("security-opt"):
        cli.say(f"WARNING: --security-opt {option}: ignored, as docker does; RUN --security=insecure needs --allow")
    if values.given("compress"):
        cli.say("WARNING: --compress: the context is read where it is, so there is nothing to compress")


def _labels(values: Values) -> tuple[tuple[str, str], ...]:
    if not values.given("label"):
        return ()
    from builder.engine.options.environment import parse_label

    return tuple(parse_label(text) for text in values.all("label"))


_LIMITS = (
    "shm-size",
    "ulimit",
    "memory",
    "memory-swap",
    "cpu-shares",
    "cpu-period",
    "cpu-quota",
    "cpuset-cpus",
    "cpuset-mems",
    "resource",
)
_RESOURCES = ("memory", "memory-swap", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems")


def _limits(values: Values) -> dict[str, Any]:
    """What bounds the steps, as arguments of BuildWish; most builds bound nothing, and pay no import."""
    if not any(values.given(name) for name in _LIMITS):
        return {}
    _take_resources(values)
    from builder.cli.container_flags import reading as read
    from builder.cli.container_flags import reading_all
    from builder.engine.options.limits import parse_ulimit
    from builder.engine.options.units import parse_bytes, parse_memory_swap
    from runtime.spec import Resources

    resources = Resources(
        memory=read(FLAGS, values, "memory", parse_bytes) or None,
        memory_swap=read(FLAGS, values, "memory-swap", parse_memory_swap) or None,
        cpu_shares=values.number("cpu-shares") or None,
        cpu_period=values.number("cpu-period") or None,
        cpu_quota=values.number("cpu-quota") or None,
        cpuset_cpus=values.text("cpuset-cpus") or None,
        cpuset_mems=values.text("cpuset-mems") or None,
    )
    return {
        "shm_size": read(FLAGS, values, "shm-size", parse_bytes),
        "ulimits": reading_all(FLAGS, values, "ulimit", parse_ulimit),
        "resources": resources,
    }


def _take_resources(values: Values) -> None:
    """--resource key=value[,…]: buildx's other way to write --memory and its like; the later one wins."""
    flags = {flag.name: flag for flag in FLAGS}
    for field in (field for text in values.all("resource") for field in text.split(",")):
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"invalid resource {field}, expected key=value")
        if key not in _RESOURCES:
            raise UsageError(f"unknown resource {key}; there are {', '.join(_RESOURCES)}")
        values.put(flags[key], value)


def _add_hosts(values: Values) -> tuple[str, ...]:
    if values.given("add-host"):
        from builder.cli.container_flags import reading_all
        from builder.engine.options.limits import parse_add_host

        reading_all(FLAGS, values, "add-host", parse_add_host)
    return values.all("add-host")


def named_context(text: str) -> tuple[str, str]:
    """(name in its shortest form, value) of one `--build-context`. Raises UsageError."""
    from builder.errors import InvalidReference
    from builder.oci.references import Reference

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"invalid context value: {text}, expected key=value")
    try:
        return Reference.parse(name).familiar().removesuffix(":latest"), value
    except InvalidReference as err:
        raise UsageError(f"invalid context name {name}: {err.message}") from err


def _secret(cli: Cli, text: str) -> tuple[str, Path | None, bytes | None]:
    """`id=NAME[,src=FILE | ,env=VARIABLE]`; without either the variable NAME, then the file NAME."""
    fields = dict(field.partition("=")[::2] for field in text.split(","))
    unknown = set(fields) - {"id", "src", "source", "env", "type"}
    if unknown:
        raise UsageError(f"unexpected key '{min(unknown)}' in secret '{text}'")
    source, variable = fields.get("src", fields.get("source", "")), fields.get("env", "")
    name = fields.get("id") or variable or source
    if not name:
        raise UsageError(f"secret '{text}' has no id")
    if not source and not variable:
        variable, source = (name, "") if name in cli.env else ("", name)
    if fields.get("type") == "env" and source:
        variable, source = source, ""
    if variable:
        if variable not in cli.env:
            raise UsageError(f"environment variable {variable} of secret {name} is not set")
        return name, None, cli.env[variable].encode("utf-8", "surrogateescape")
    path = cli.cwd / source
    if not path.is_file():
        raise UsageError(f"failed to stat {source}: no such file or directory (secret {name})")
    return name, path, None


def _ssh(cli: Cli, text: str) -> tuple[str, Path]:
    name, _, socket = text.partition("=")
    socket = socket or cli.env.get("SSH_AUTH_SOCK", "")
    if not socket:
        raise UsageError(f"invalid empty ssh agent socket for {name}: make sure SSH_AUTH_SOCK is set")
    path = cli.cwd / socket
    if path.is_file():
        raise UsageError(f"--ssh {text}: {socket} is no agent's socket; load the key into one: ssh-add {socket}")
    return name, path


def build(cli: Cli, values: Values, arguments: list[str]) -> int:
    """Build, show the progress on stderr, print the id with -q."""
    mode = progress_mode(cli, values)
    if values.on("quiet"):
        mode = "quiet"
    elif mode == "auto":
        mode = "tty" if cli.terminal_err() else "plain"
    cli.debug = cli.debug or values.on("debug")
    question = repeats.asked(cli, values, arguments[0])
    known = repeats.find(cli, values, arguments[0], question)
    if known is None:
        return _build(cli, values, wish(cli, values, arguments, question), mode)
    if known.warnings or mode not in ("plain", "quiet", "none"):
        from builder.cli.build_view import Closing, progress_view

        view, asked = progress_view(cli, mode), wish(cli, values, arguments)
        with Closing(cli, view, asked, tell=mode != "rawjson") as closing:
            repeats.tell(known, cli.now().timestamp(), closing)
    elif mode == "plain":
        repeats.show(known, sys.stderr)
    _write_id(cli, values, known.image)
    if values.on("quiet"):
        cli.out(known.image)
    return 0


def _build(cli: Cli, values: Values, asked: BuildWish, mode: str) -> int:
    from builder.cli.build_view import Closing, explain, progress_view, pull_view
    from builder.engine import builds

    quiet = values.on("quiet")
    if values.on("check") or values.given("call"):
        from builder.cli import calls

        call = calls.parse("check" if values.on("check") else values.text("call"))
        if call.method != "build":
            return calls.run(cli, asked, call)
    stdin = cli.raw_in() if asked.source == "-" or asked.dockerfile == "-" else None
    with Closing(cli, progress_view(cli, mode), asked, tell=mode not in ("quiet", "rawjson")) as closing:
        try:
            pulling = pull_view(cli, mode)
            stdout = cli.raw_out().write
            built = builds.build(cli.engine, asked, stdin=stdin, emit=closing, stdout=stdout, pulling=pulling)
        except KeyboardInterrupt:
            closing.close()
            cli.say("ERROR: failed to build: failed to solve: Canceled: context canceled")
            return 130
        except builds.problems() as error:
            closing.close()
            explain(cli, error, closing)
            return 1
    _write_files(cli, values, built, closing.warnings)
    if quiet and not any(output.dest == "-" for output in asked.outputs):
        cli.out(built.result.image_id)
    if built.result.ran:
        from builder.cli.commands.cache import keep_to_limit

        keep_to_limit(cli)
    return 0


def _write_id(cli: Cli, values: Values, image: str) -> None:
    if values.text("iidfile"):
        (cli.cwd / values.text("iidfile")).write_text(image, encoding="ascii")


def _write_files(cli: Cli, values: Values, built: Built, warnings: Sequence[BuildWarning]) -> None:
    _write_id(cli, values, built.result.image_id)
    if values.text("metadata-file"):
        from builder.cli.build_outputs import write_metadata

        write_metadata(cli, cli.cwd / values.text("metadata-file"), built, warnings)


COMMANDS = {
    "build": Command(
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        build,
        flags=FLAGS,
        arguments=(1, 1),
        complete="file",
        aliases="lamina build, lamina builder build, lamina image build, lamina buildx b, lamina buildx build",
    )
}

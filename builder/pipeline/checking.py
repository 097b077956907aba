"""The checks as builds use them: what the store knows goes in, warnings come out and are remembered.

A build checks the stages that its target needs. What was found is kept in the store under all that it depends on, so
that the build of a Dockerfile which was checked before does not even import the checks.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from builder.errors import ChecksFailed
from builder.pipeline.progress import BuildWarning
from builder.pipeline.steps import BaseStep
from parser.redact import has_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from builder.oci.platforms import Platform
    from builder.pipeline.plan import Plan
    from builder.pipeline.request import BuildRequest
    from builder.pipeline.trees import Tree
    from builder.store import Store
    from parser.checks import Finding, ImageFacts, Surroundings
    from parser.ignorefile import Matcher
    from parser.instructions import Dockerfile

FORMAT = 2
"""Raise it when the same input comes to other findings."""


def warnings(request: BuildRequest, store: Store, dockerfile: Dockerfile, plan: Plan) -> tuple[BuildWarning, ...]:
    """What a build of *plan*, made from *dockerfile*, is told at its end.

    Raises ChecksFailed when the findings are to be errors, DockerfileError for options that mean nothing. The error of
    a violation has the warnings with it."""
    key = _key(request, plan)
    known = store.files.get_parsed(key)
    if known is None:
        from parser.checks import check

        report = check(dockerfile, surroundings(request, store, only_target=True))
        data: dict[str, Any] = {
            "found": [_plain(one) for one in report.findings],
            "violation": report.violation if report.fails else "",
        }
        if not has_credentials(request.dockerfile):
            store.files.put_parsed(key, json.dumps(data).encode())
    else:
        data = json.loads(known)
    told = tuple(BuildWarning(*one) for one in data["found"])
    if data["violation"]:
        raise ChecksFailed(str(data["violation"]), told)
    return told


def surroundings(
    request: BuildRequest, store: Store | None, *, only_target: bool, ignored: Matcher | None = None
) -> Surroundings:
    """What the checks of *request* must know beside the Dockerfile. Images come from *store*; it is not changed."""
    from builder.oci import platforms
    from builder.pipeline import scope
    from builder.pipeline.plan import context_key
    from parser import checks

    host = platforms.host(os.uname().machine)
    wanted = request.platforms[0] if request.platforms else host

    def platform(text: str) -> tuple[str, str] | None:
        found = _platform(text, wanted)
        return None if found is None else (found.os, found.architecture)

    def image(name: str, platform: str | None) -> checks.ImageFacts:
        key = context_key(request.contexts, name)
        given = None if key is None else request.contexts[key]
        if store is None or not (given is None or isinstance(given, str)):
            return checks.ImageFacts()
        reference = name if given is None else given.removeprefix("docker-image://")
        return _image(store, reference, _platform(platform or "", wanted))

    return checks.Surroundings(
        build_args=request.build_args,
        automatic=scope.platform_args(host, wanted, request.target),
        target=request.target,
        only_target=only_target,
        image=image,
        is_image_name=_is_name,
        platform=platform,
        ignored=ignored or _ignored(request.context),
        contexts=frozenset(request.contexts),
    )


def _platform(text: str, wanted: Platform) -> Platform | None:
    from builder.errors import InvalidPlatform
    from builder.oci import platforms

    try:
        return platforms.parse(text, default=wanted) if text else wanted
    except InvalidPlatform:
        return None


def _is_name(text: str) -> bool:
    from builder.errors import InvalidReference
    from builder.oci.references import Reference

    try:
        Reference.parse(text)
    except InvalidReference:
        return False
    return True


def _image(store: Store, reference: str, platform: Platform | None) -> ImageFacts:
    """What the store knows of an image. One that it has not got counts as having PATH, and nothing else."""
    from builder.errors import EngineError
    from builder.pipeline.scope import DEFAULT_PATH
    from builder.store.images import BASE_ID
    from parser.checks import ImageFacts

    try:
        target = store.images.target(reference, shortest=BASE_ID)
        config = store.images.get(store.images.choose(target, platform) or target).config
    except EngineError:
        return ImageFacts()
    env = {"PATH": DEFAULT_PATH}
    for pair in config.config.env:
        name, _, value = pair.partition("=")
        env[name] = value
    return ImageFacts(
        env=env,
        shell=config.config.shell or (),
        on_build=config.config.on_build,
        workdir=config.config.working_dir or "/",
        platform=(config.platform.os, config.platform.architecture),
    )


def _ignored(tree: Tree | None) -> Matcher | None:
    return None if tree is None else tree.matcher


def warning(finding: Finding) -> BuildWarning:
    """A finding as an event of a build."""
    return BuildWarning(*_plain(finding))


def _plain(finding: Finding) -> tuple[str, int, str, str, int]:
    """The fields of a BuildWarning."""
    span, rule = finding.span, finding.rule
    return f"{rule.name}: {finding.detail}", span.start.line, rule.description, rule.url, span.end.line


def _key(request: BuildRequest, plan: Plan) -> str:
    """A digest of all that the findings depend on."""
    import parser

    bases: Iterable[str] = (step.work.base.image_id for step in plan.steps if isinstance(step.work, BaseStep))
    contexts: Mapping[str, object] = request.contexts
    matcher = _ignored(request.context)
    parts = (
        FORMAT,
        parser.VERSION,
        sorted(request.build_args.items()),
        request.target,
        [str(platform) for platform in request.platforms[:1]],
        sorted((name, value if isinstance(value, str) else None) for name, value in contexts.items()),
        matcher.patterns if matcher is not None else None,
        sorted(bases),
    )
    text = repr(parts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(b"checks\0%d\0" % len(text) + text + request.dockerfile).hexdigest()

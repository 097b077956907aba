"""Compose files: the `build` of their services as targets, and one group "default" of them all.

Only what a build needs is read; services without `build` are no targets. Several files are merged service by service.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.engine.bake import values as v
from builder.engine.bake.definition import Config
from builder.engine.bake.interpolate import interpolate
from builder.engine.bake.target import Content, Group, Target, content
from builder.errors import BakeError
from runtime.values import dataclass

_XBAKE = {
    "tags": True,
    "cache-from": True,
    "cache-to": True,
    "secret": True,
    "ssh": True,
    "platforms": True,
    "output": True,
    "no-cache-filter": True,
    "pull": False,
    "no-cache": False,
    "contexts": False,
}
"""The keys of x-bake; whether they are lists."""
_MOST, _DEEPEST = 200_000, 100
"""Values in a file, and levels of them."""


@dataclass(frozen=True, slots=True)
class Document:
    """A file that has been read but not understood."""

    name: str
    content: Mapping[str, object]


def load(text: str, *, name: str) -> Document:
    """Read YAML. Raises BakeError with the place of what cannot be read, or when it is no compose file."""
    import yaml

    try:
        found = yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as err:
        mark = err.problem_mark
        place = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
        from parser.source import Source, Span

        excerpt = "" if mark is None else Source.of(text, name=name).citation(Span.lines(mark.line + 1, mark.line + 1))
        raise BakeError(f"{name}{place}: {err.problem or err}", excerpt=excerpt) from None
    except (yaml.YAMLError, RecursionError) as err:
        raise BakeError(f"{name}: {err}") from None
    if not isinstance(found, dict) or not isinstance(found.get("services", {}), dict | None):
        raise BakeError(f"{name}: this is no compose file: services are missing")
    return Document(name, {str(key): value for key, value in found.items()})


def _loader() -> Any:
    """YAML as compose has it: `yes`, `on`, `1_000`, `12:30`, fractions and dates are texts."""
    import re

    import yaml

    base = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    kept = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
    resolvers = {
        letter: [(tag, pattern) for tag, pattern in found if tag in kept]
        for letter, found in base.yaml_implicit_resolvers.items()
    }
    loader: Any = type("Loader", (base,), {"yaml_implicit_resolvers": resolvers})
    bools = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
    loader.add_implicit_resolver("tag:yaml.org,2002:bool", bools, "tTfF")
    integers = re.compile(r"[-+]?(?:0|[1-9][0-9]*)\Z")
    loader.add_implicit_resolver("tag:yaml.org,2002:int", integers, "-+0123456789")
    return loader


def define(documents: Sequence[Document], env: Mapping[str, str]) -> Config:
    """The targets of compose files, later ones on top of earlier ones. Raises BakeError."""
    written: dict[str, Mapping[str, object]] = {}
    secrets: dict[str, Mapping[str, object]] = {}
    for document in documents:
        if "include" in document.content:
            raise BakeError(f"{document.name}: include is not supported", hint="name the other files with -f")
        filled = _Filled(document.name, env).document(document.content)
        for name, service in _map(filled.get("services"), f"{document.name}: services").items():
            where = f"{document.name}: services.{name}"
            written[name] = _over(written.get(name, {}), _service(_map(service, where), where))
        for name, secret in _map(filled.get("secrets"), f"{document.name}: secrets").items():
            secrets[name] = _map(secret, f"{document.name}: secrets.{name}")
    services = {name: _extended(name, written, ()) for name in written}
    targets = tuple(
        _target(name, service, secrets, env) for name, service in services.items() if service.get("build") is not None
    )
    if not services:
        return Config()
    return Config((Group("default", tuple(one.name for one in targets)),), targets)


class _Filled:
    """Interpolates every text of a document; keys stay as they are."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.name = name
        self.env = env
        self.left = _MOST

    def document(self, document: Mapping[str, object]) -> Mapping[str, object]:
        """The sections that a build can need."""
        kept = {key: document[key] for key in ("services", "secrets") if key in document}
        services = kept.get("services")
        if isinstance(services, dict):
            wanted = ("image", "build", "environment", "extends")
            kept["services"] = {
                str(name): {key: one[key] for key in wanted if key in one} if isinstance(one, dict) else {}
                for name, one in services.items()
            }
        return {key: self.value(value, key) for key, value in kept.items()}

    def value(self, value: object, where: str, depth: int = 0) -> object:
        self.left -= 1
        if self.left < 0 or depth > _DEEPEST:
            # aliases can make a file of a few lines endless
            raise BakeError(f"{self.name}: this is too large for a compose file")
        if isinstance(value, str):
            return interpolate(value, self.env, where=f"{self.name}: {where}")
        if isinstance(value, dict):
            return {str(key): self.value(one, f"{where}.{key}", depth + 1) for key, one in value.items()}
        if isinstance(value, list):
            return [self.value(one, f"{where}[{at}]", depth + 1) for at, one in enumerate(value)]
        return value


def _map(value: object, where: str) -> Mapping[str, object]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise BakeError(f"{where} must be a mapping")
    return value


def _service(service: Mapping[str, object], where: str) -> Mapping[str, object]:
    """A service whose `build` is a mapping with the long forms of everything."""
    build = service.get("build")
    if build is None:
        return service
    if isinstance(build, str):
        build = {"context": build}
    made = dict(_map(build, f"{where}.build"))
    for key in ("args", "labels", "additional_contexts", "extra_hosts"):
        if key in made:
            made[key] = _pairs(made[key], f"{where}.build.{key}", colon=key == "extra_hosts")
    return {**service, "build": made, "where": f"{where}.build"}


def _extended(name: str, services: Mapping[str, Mapping[str, object]], path: tuple[str, ...]) -> Mapping[str, object]:
    """A service on top of the one that it extends, which must be in the same files."""
    own = services[name]
    base = own.get("extends")
    if base is None:
        return own
    if isinstance(base, Mapping):
        if base.get("file"):
            raise BakeError(f"services.{name}.extends.file is not supported", hint="name the other file with -f")
        base = base.get("service")
    if base not in services:
        raise BakeError(f"services.{name} extends {base}, which is not there")
    if base in (*path, name):
        raise BakeError(f"services.{name} extends itself: {' -> '.join((*path, name, str(base)))}")
    below = {key: value for key, value in _extended(str(base), services, (*path, name)).items() if key != "image"}
    return _over(below, own)


def _pairs(value: object, where: str, *, colon: bool = False) -> Mapping[str, object]:
    """A mapping, or a list of NAME=value texts; a name alone is None. Hosts may be written host:address."""
    if isinstance(value, Mapping):
        return {key: ",".join(map(str, one)) if isinstance(one, list) else one for key, one in value.items()}
    if value is None:
        return {}
    if not isinstance(value, list):
        raise BakeError(f"{where} must be a mapping or a list")
    made: dict[str, object] = {}
    for one in value:
        name, equals, content = str(one).partition("=")
        if not equals and colon:
            name, equals, content = str(one).partition(":")
        made[name] = content if equals else None
    return made


def _over(before: Mapping[str, object], later: Mapping[str, object]) -> Mapping[str, object]:
    """Compose's merge: mappings key by key, lists one after the other, the rest replaced."""
    made = dict(before)
    for key, value in later.items():
        old = made.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            made[key] = _over(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            made[key] = [*old, *(one for one in value if one not in old)]
        else:
            made[key] = value
    return made


def _target(
    name: str, service: Mapping[str, object], secrets: Mapping[str, Mapping[str, object]], env: Mapping[str, str]
) -> Target:
    where = str(service["where"])
    build = _map(service["build"], where)
    made: dict[str, Content] = {}
    for attribute, value in _attributes(build, where, secrets):
        _set(made, attribute, value, where)
    own = _pairs(service.get("environment"), f"{where}: environment")
    args = _map(build.get("args"), where)
    resolved = {key: env.get(key, own.get(key)) if one is None else one for key, one in args.items()}
    _set(made, "args", resolved or None, where)
    if not made.get("tags") and service.get("image"):
        _set(made, "tags", [service["image"]], where)
    for key, value in _map(build.get("x-bake"), f"{where}.x-bake").items():
        _extend(made, key, value, f"{where}.x-bake")
    title = name.replace(".", "_")
    if not all(letter.isascii() and (letter.isalnum() or letter in "_-") for letter in title):
        raise BakeError(f'invalid service name "{title}": only "[a-zA-Z0-9_-]+" are allowed')
    return Target(title, made)


def _attributes(
    build: Mapping[str, object], where: str, secrets: Mapping[str, Mapping[str, object]]
) -> Iterator[tuple[str, object]]:
    """The attributes that a build section sets, as bake calls them."""
    same = {"context": "context", "dockerfile": "dockerfile", "dockerfile_inline": "dockerfile-inline"}
    same |= {"target": "target", "network": "network", "tags": "tags", "labels": "labels", "platforms": "platforms"}
    same |= {"cache_from": "cache-from", "cache_to": "cache-to", "extra_hosts": "extra-hosts"}
    for key, attribute in same.items():
        if build.get(key):
            yield attribute, build[key]
    for key, attribute in (("no_cache", "no-cache"), ("pull", "pull")):
        if build.get(key) in (True, "true"):
            yield attribute, True
    if build.get("shm_size"):
        from builder.engine.options.units import parse_bytes

        yield "shm-size", str(parse_bytes(str(build["shm_size"])))
    if build.get("additional_contexts"):
        yield "contexts", _contexts(build["additional_contexts"])
    if build.get("privileged") in (True, "true"):
        yield "entitlements", ["security.insecure"]
    elif build.get("entitlements"):
        yield "entitlements", build["entitlements"]
    limits = _map(build.get("ulimits"), f"{where}.ulimits")
    if limits:
        yield "ulimits", [f"{name}={_limit(limit, f'{where}.ulimits.{name}')}" for name, limit in limits.items()]
    if build.get("ssh"):
        yield "ssh", [_ssh(one) for one in sorted(_ssh_keys(build["ssh"]))]
    if build.get("secrets"):
        yield "secret", [_secret(one, secrets, where) for one in _list(build["secrets"])]
    attests = []
    for kind in ("provenance", "sbom"):
        if build.get(kind) not in (None, ""):
            attests.append(_attest(kind, build[kind]))
    if attests:
        yield "attest", attests


def _set(made: dict[str, Content], attribute: str, value: object, where: str) -> None:
    try:
        found = content(attribute, _value(value))
    except v.Unfit as err:
        raise BakeError(f"{where}: unsuitable value for {attribute}: {err}") from None
    if found is not None:
        made[attribute] = found


def _value(value: object) -> v.Value:
    if isinstance(value, list):
        return tuple(map(_value, value))
    if isinstance(value, Mapping):
        return {str(key): _value(one) for key, one in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _contexts(value: object) -> Mapping[str, str]:
    """Services and targets are called by their targets' names."""
    made = {}
    for name, source in _map(value, "contexts").items():
        kind, colon, rest = str(source).partition(":")
        made[name] = f"target:{rest.replace('.', '_')}" if colon and kind in ("service", "target") else str(source)
    return made


def _limit(limit: object, where: str) -> str:
    if isinstance(limit, Mapping):
        if not {"soft", "hard"} <= limit.keys():
            raise BakeError(f"{where} needs soft and hard")
        return f"{limit['soft']}:{limit['hard']}"
    return f"{limit}:{limit}"


def _ssh_keys(value: object) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{key}={one}" if one else str(key) for key, one in value.items()]
    return [str(one) for one in _list(value)]


def _ssh(text: str) -> object:
    name, _, path = text.partition("=")
    return {"id": name, "paths": [path]} if path else {"id": name}


def _secret(use: object, secrets: Mapping[str, Mapping[str, object]], where: str) -> object:
    source = str(use.get("source", "")) if isinstance(use, Mapping) else str(use)
    secret = secrets.get(source)
    if secret is None:
        raise BakeError(f"{where}.secrets: undefined secret {source}", hint="define it below the file's top secrets")
    if secret.get("external"):
        raise BakeError(f"{where}.secrets: unsupported external secret {source}")
    made: dict[str, object] = {"id": source}
    if secret.get("file"):
        made["src"] = secret["file"]
    if secret.get("environment"):
        made["env"] = secret["environment"]
    return made


def _attest(kind: str, value: object) -> str:
    if value in (True, "true"):
        return f"type={kind}"
    if value in (False, "false"):
        return f"type={kind},disabled=true"
    return f"type={kind},{value}"


def _extend(made: dict[str, Content], key: str, value: object, where: str) -> None:
    """One key of x-bake: lists add to what compose says."""
    if key not in _XBAKE:
        raise BakeError(f"{where}: unknown key {key}", hint=f"keys are {', '.join(_XBAKE)}")
    if key == "contexts":
        found: dict[str, Content] = {}
        _set(found, key, _contexts(value), where)
        made[key] = {**dict(found[key]), **dict(made.get(key, {}))}  # type: ignore[arg-type]
        return
    if not _XBAKE[key]:
        _set(made, key, value, where)
        return
    items = value.split() if isinstance(value, str) else value
    before = made.get(key, ())
    _set(made, key, items, where)
    added = made.get(key, ())
    assert isinstance(before, tuple) and isinstance(added, tuple)
    made[key] = (*before, *(one for one in added if one not in before))

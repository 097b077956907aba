"""`--filter`: reading them, and which images they leave. The same key twice means either, different keys mean both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from builder.cli import units
from builder.cli.flags import UsageError
from builder.errors import InvalidInput

if TYPE_CHECKING:
    from builder.engine.session import Engine
    from builder.oci.references import Reference
    from builder.store.listing import Listed

Wanted = Mapping[str, Sequence[str]]


def parse(texts: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """The filters by key. Raises InvalidInput for a key that is not `known`."""
    found: dict[str, list[str]] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f'invalid argument "{text}" for "-f, --filter" flag: bad format of filter (expected name=value)'
            )
        key = key.strip().lower()
        if key not in known:
            raise InvalidInput(f"invalid filter '{key}'", hint="known: " + ", ".join(known))
        found.setdefault(key, []).append(value.strip())
    return found


def truth(wanted: Wanted, key: str) -> bool | None:
    """A yes-or-no filter. Raises InvalidInput."""
    values = wanted.get(key)
    if not values:
        return None
    if values[-1].lower() in ("1", "t", "true"):
        return True
    if values[-1].lower() in ("0", "f", "false"):
        return False
    raise InvalidInput(f"invalid filter '{key}={values[-1]}'")


def labelled(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Whether all wanted labels (`key` or `key=value`) are there."""
    for text in wanted:
        key, equals, value = text.partition("=")
        if key not in labels or (equals and labels[key] != value):
            return False
    return True


def names(reference: Reference, pattern: str) -> bool:
    """Whether `pattern` (REPOSITORY[:TAG], with wildcards) names the reference."""
    repository, colon, tag = pattern.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = pattern, ""
    known = (reference.familiar_name(), reference.name)
    return any(fnmatchcase(name, repository) for name in known) and (not tag or fnmatchcase(reference.tag or "", tag))


def images(engine: Engine, listed: Iterable[Listed], wanted: Wanted) -> list[Listed]:
    """The images that the filters leave. Raises ImageNotFound for `before` and `since`."""
    if "reference" in wanted:
        from runtime.values import replace
    dangling = truth(wanted, "dangling")
    bounds = {key: [_created(engine, name) for name in wanted.get(key, ())] for key in ("before", "since")}
    until = []
    if "until" in wanted:
        from builder.engine.options.units import parse_moment

        until = [parse_moment(text, engine.clock()) for text in wanted["until"]]
    left = []
    for image in listed:
        created = image.created or 0
        if dangling is not None and image.dangling != dangling:
            continue
        if bounds["before"] and created >= max(bounds["before"]):
            continue
        if bounds["since"] and created <= min(bounds["since"]):
            continue
        if until and created > min(until):
            continue
        if "reference" in wanted:
            # of an image with several names only those that match are shown
            matching = tuple(
                each for each in image.references if any(names(each, pattern) for pattern in wanted["reference"])
            )
            if not matching:
                continue
            image = replace(image, references=matching)
        if "label" in wanted and not labelled(_labels(engine, image), wanted["label"]):
            continue
        left.append(image)
    return left


def _labels(engine: Engine, image: Listed) -> Mapping[str, str]:
    """An image's labels; of an index those of the image for this machine."""
    images = engine.store.images
    return next((images.get(each).config.config.labels for each in images.of(image.id)), {})


def _created(engine: Engine, name: str) -> int:
    image_id = engine.store.images.resolve(name)
    return next((each.created or 0 for each in engine.store.images.list() if each.id == image_id), 0)


def moment(nanoseconds: int | None) -> datetime | None:
    """Nanoseconds since the epoch as a time."""
    return None if nanoseconds is None else units.moment(nanoseconds)


def parsed_moment(text: str | None) -> datetime | None:
    """RFC 3339 text as a time, None when there is none."""
    from builder.oci.times import parse

    return None if not text else moment(parse(text))

"""Filters of the build cache, as buildx has them."""

from dataclasses import replace

import pytest

from builder.engine.options import cachefilters
from builder.errors import InvalidInput
from builder.store.cacheitems import CacheItem, CacheKind

HOUR = 3600 * 10**9
STEP = CacheItem(CacheKind.REGULAR, "ab12", "RUN a, then b", 5, 0, 10 * HOUR, 1, shared=True)
MOUNT = CacheItem(CacheKind.MOUNT, "cd34", "cache mount npm", 5, 0, 12 * HOUR, 1)


@pytest.mark.parametrize(
    ("texts", "ids"),
    [
        ((), "ab12 cd34"),
        (("until=1h",), "ab12"),
        (("unused-for=0s",), "ab12 cd34"),
        (("unused-for=3h",), ""),
        (("type=exec.cachemount",), "cd34"),
        (("type==source.local,type==exec.cachemount",), "cd34"),
        (("type=regular", "type=exec.cachemount"), "ab12 cd34"),
        (("type!=regular", "type!=exec.cachemount"), ""),
        (("id=ab",), "ab12"),
        (("id~=^(ab|cd)",), "ab12 cd34"),
        (("description=npm",), "cd34"),
        (("description=a, then",), "ab12"),
        (("description~=RUN.*b$", "until=1h"), "ab12"),
        (("shared",), "ab12"),
        (("private=true",), "cd34"),
        (("shared!=true",), "cd34"),
        (("mutable",), "cd34"),
        (("immutable=1", "inuse=false"), "ab12"),
    ],
)
def test_what_they_leave(texts: tuple[str, ...], ids: str) -> None:
    select = cachefilters.parse(texts, now=12 * HOUR)
    assert [each.id for each in (STEP, MOUNT) if select is None or select(each)] == ids.split()


def test_what_is_in_use() -> None:
    select = cachefilters.parse(("inuse",), now=0)
    assert select is not None and select(replace(STEP, in_use=True)) and not select(STEP)


@pytest.mark.parametrize("text", ["color=red", "until", "until=soon", "shared=perhaps", "id~=(", "=x", ""])
def test_others_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        cachefilters.parse((text,), now=0)

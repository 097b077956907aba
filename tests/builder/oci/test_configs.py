"""Image configs: what is written is read again, a foreign document loses nothing, a hostile one is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.errors import InvalidDocument
from builder.oci import digests, mutate, times
from builder.oci.configs import ContainerConfig, Healthcheck, History, ImageConfig
from builder.oci.digests import DiffID
from builder.oci.platforms import Platform

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
STRINGS = st.lists(TEXT, max_size=3).map(tuple)
COUNTS = st.integers(0, 1 << 40)
MOMENTS = st.integers(0, 4_000_000_000 * 10**9).map(times.text)
DIFF_IDS = st.binary(max_size=4).map(lambda data: DiffID(digests.of(data)))
SETS = st.sets(TEXT, max_size=3).map(lambda names: tuple(sorted(names)))
HEALTHCHECKS = st.builds(
    Healthcheck,
    test=STRINGS,
    interval=COUNTS,
    timeout=COUNTS,
    start_period=COUNTS,
    start_interval=COUNTS,
    retries=COUNTS,
)
CONTAINERS = st.builds(
    ContainerConfig,
    user=TEXT,
    exposed_ports=SETS,
    env=STRINGS,
    entrypoint=st.none() | STRINGS,
    cmd=st.none() | STRINGS,
    volumes=SETS,
    working_dir=TEXT,
    labels=st.dictionaries(TEXT, TEXT, max_size=3),
    stop_signal=TEXT,
    stop_timeout=st.none() | st.integers(0, 100),
    healthcheck=st.none() | HEALTHCHECKS,
    on_build=STRINGS,
    shell=st.none() | STRINGS,
    args_escaped=st.booleans(),
    extra=st.dictionaries(st.sampled_from(["Hostname", "Domainname", "Image"]), TEXT, max_size=2),
)
LINES = st.builds(
    History, created=st.none() | MOMENTS, created_by=TEXT, author=TEXT, comment=TEXT, empty_layer=st.booleans()
)
CONFIGS = st.builds(
    ImageConfig,
    architecture=st.sampled_from(["amd64", "arm64"]),
    os=st.just("linux"),
    config=CONTAINERS,
    diff_ids=st.lists(DIFF_IDS, max_size=3).map(tuple),
    history=st.lists(LINES, max_size=3).map(tuple),
    created=st.none() | MOMENTS,
    author=TEXT,
    variant=st.sampled_from(["", "v8"]),
    os_version=st.sampled_from(["", "10.0.17763.1"]),
    os_features=STRINGS,
    extra=st.dictionaries(st.sampled_from(["docker_version", "container"]), TEXT, max_size=2),
)


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_written_and_read_again_is_the_same(config: ImageConfig) -> None:
    data = config.to_json()
    assert ImageConfig.from_json(data) == config
    assert ImageConfig.from_json(data).to_json() == data


@settings(max_examples=60, deadline=None)
@given(CONFIGS, LINES, st.none() | DIFF_IDS)
def test_a_step_more_changes_nothing_below(config: ImageConfig, line: History, diff_id: DiffID | None) -> None:
    after = mutate.append(config, diff_id, line)
    assert after.history[:-1] == mutate.complete(config).history
    assert sum(not entry.empty_layer for entry in after.history) == len(after.diff_ids)
    assert after.diff_ids == (*config.diff_ids, *(() if diff_id is None else (diff_id,)))
    assert after.history[-1].empty_layer == (diff_id is None)
    assert after.created == (line.created or config.created)
    assert after.config == config.config


@settings(max_examples=60, deadline=None)
@given(CONFIGS)
def test_a_history_that_fits_badly_is_made_to_fit(config: ImageConfig) -> None:
    whole = mutate.complete(config)
    assert sum(not entry.empty_layer for entry in whole.history) == len(whole.diff_ids) == len(config.diff_ids)
    assert [line.created_by for line in whole.history[: len(config.history)]] == [
        line.created_by for line in config.history
    ]
    assert mutate.complete(whole) is whole


def test_changing_a_container_keeps_the_image() -> None:
    config = mutate.empty(Platform("linux", "arm", "v7"))
    assert (config.platform, config.diff_ids, config.history) == (Platform("linux", "arm", "v7"), (), ())
    changed = mutate.with_config(config, ContainerConfig(cmd=("sh",)))
    assert changed.config.cmd == ("sh",)
    assert mutate.with_config(changed, config.config) == config


def test_nothing_set_and_set_to_nothing_are_told_apart() -> None:
    inherited, cleared = ContainerConfig(), ContainerConfig(cmd=(), entrypoint=())
    assert "Cmd" not in inherited.to_json()
    assert cleared.to_json()["Cmd"] == []
    image = ImageConfig("amd64", "linux", config=cleared)
    assert ImageConfig.from_json(image.to_json()).config.cmd == ()


def _document(**changes: object) -> bytes:
    document: dict[str, object] = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [digests.of(b"")]},
    }
    document.update(changes)
    return json.dumps({key: value for key, value in document.items() if value is not None}).encode()


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"os": None}, "os"),
        ({"architecture": ""}, "architecture"),
        ({"rootfs": None}, "rootfs"),
        ({"rootfs": {"type": "layer", "diff_ids": []}}, "rootfs.type"),
        ({"rootfs": {"type": "layers", "diff_ids": ["sha256:../../x"]}}, "rootfs.diff_ids[0]"),
        ({"layers": [1]}, "layers"),
        ({"manifests": [{}]}, "manifests"),
        ({"created": "yesterday"}, "created"),
        ({"history": [{"created": "0"}]}, "history[0].created"),
        ({"config": {"Env": "A=1"}}, "config.Env"),
        ({"config": {"ExposedPorts": {"80/tcp": 1}}}, "config.ExposedPorts.80/tcp"),
        ({"config": {"Healthcheck": {"Retries": 1.5}}}, "config.Healthcheck.Retries"),
        ({"config": {"cmd": ["x"]}}, "config.cmd"),
    ],
)
def test_wrong_configs_are_refused_with_the_place(changes: dict[str, object], where: str) -> None:
    with pytest.raises(InvalidDocument) as caught:
        ImageConfig.from_json(_document(**changes))
    assert caught.value.where == where


def test_docker_writes_null_for_no_layers() -> None:
    assert ImageConfig.from_json(_document(rootfs={"type": "layers", "diff_ids": None})).diff_ids == ()


def test_a_history_without_end_is_refused() -> None:
    with pytest.raises(InvalidDocument, match="more than 20000"):
        ImageConfig.from_json(_document(history=[{}] * 20_001))

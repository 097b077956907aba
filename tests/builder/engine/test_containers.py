"""What a request comes to on an image, and that definitions survive their way through the store."""

import json

import pytest

from builder.engine import codec
from builder.engine.containers import Definition, MountPoint, resolve
from builder.engine.options.limits import Ulimit
from builder.engine.options.mounts import MountRequest, MountType
from builder.engine.requests import ContainerRequest, HealthRequest, LimitRequest, NetworkRequest
from builder.errors import InvalidInput, StoreCorrupt
from builder.oci.configs import ContainerConfig, Healthcheck
from runtime.ports import PortMapping

IMAGE = ContainerConfig(
    env=("PATH=/bin", "A=1"),
    entrypoint=("/entry",),
    cmd=("serve",),
    user="app",
    working_dir="/srv",
    labels={"a": "1"},
    healthcheck=Healthcheck(("CMD", "ok"), interval=5),
)


def test_the_images_words_hold_where_nothing_was_asked() -> None:
    definition = resolve(ContainerRequest("x"), IMAGE)
    assert definition.argv == ("/entry", "serve")
    assert (definition.user, definition.workdir, definition.stop_signal) == ("app", "/srv", "SIGTERM")
    assert definition.health is not None and definition.health.interval == 5


def test_a_command_replaces_cmd_and_an_entrypoint_drops_it() -> None:
    assert resolve(ContainerRequest("x", command=("ls",)), IMAGE).argv == ("/entry", "ls")
    assert resolve(ContainerRequest("x", entrypoint=("sh",)), IMAGE).argv == ("sh",)
    assert resolve(ContainerRequest("x", entrypoint=(), command=("ls",)), IMAGE).argv == ("ls",)


def test_published_ports_are_exposed_ones() -> None:
    network = NetworkRequest(ports=(PortMapping(80, "tcp"),), expose=("9/udp",))
    assert resolve(ContainerRequest("x", network=network), IMAGE).exposed == ("9/udp", "80/tcp")


def test_nothing_to_run_is_an_error() -> None:
    with pytest.raises(InvalidInput, match="no command specified"):
        resolve(ContainerRequest("x"), ContainerConfig())


def test_variables_labels_and_health_are_merged() -> None:
    asked = ContainerRequest("x", env=("A=2", "B=3", "PATH"), labels=(("a", "2"),), health=HealthRequest(("NONE",)))
    definition = resolve(asked, IMAGE)
    assert definition.env == ("A=2", "B=3")
    assert definition.labels == (("a", "2"),)
    assert definition.health is None


def test_a_definition_comes_back_from_the_store_as_it_was() -> None:
    request = ContainerRequest(
        "x",
        mounts=(MountRequest(MountType.BIND, "/b", "/a", labels=(("k", "v"),)),),
        limits=LimitRequest(ulimits=(Ulimit("nofile", 1, 2),)),
        restart=("on-failure", 3),
        stop_timeout=3,
    )
    definition = resolve(request, IMAGE)
    whole = codec.from_plain(Definition, json.loads(json.dumps(codec.to_plain(definition))))
    assert whole == definition
    point = MountPoint(request.mounts[0], "/a")
    assert codec.from_plain(MountPoint, codec.to_plain(point)) == point


@pytest.mark.parametrize("value", [None, [], {"argv": 3}, {"argv": ["a"]}])
def test_a_damaged_definition_is_a_store_error(value: object) -> None:
    with pytest.raises(StoreCorrupt):
        codec.from_plain(Definition, value)

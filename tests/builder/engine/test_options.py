"""docker's small notations, each as docker reads it."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.engine.options import environment, limits, mounts, units
from builder.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("512m", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("2g", 2 << 30),
        ("100", 100),
        ("1 kb", 1024),
        ("0", 0),
        ("4T", 4 << 40),
    ],
)
def test_sizes_have_binary_units(text: str, count: int) -> None:
    assert units.parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "m", "1x", "1mm", "ten", "1e3", "9" * 30 + "g"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1m30s", 90_000_000_000), ("1.5h", 5400 * 10**9), ("0", 0), ("-2s", -2 * 10**9), ("3us", 3000), ("10ms", 10**7)],
)
def test_durations_are_gos(text: str, count: int) -> None:
    assert units.parse_duration(text) == count


@pytest.mark.parametrize("text", ["", "5", "1x", "s", "1s5", "--1s"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        units.parse_duration(text)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (
        units.parse_bytes,
        units.parse_duration,
        units.parse_cpus,
        limits.parse_ulimit,
        limits.parse_device,
        limits.parse_restart,
        limits.parse_signal,
        limits.parse_add_host,
        mounts.parse_tmpfs,
        lambda each: mounts.parse_volume(each, cwd="/"),
        lambda each: mounts.parse_mount(each, cwd="/"),
        lambda each: units.parse_moment(each, datetime(2026, 1, 1, tzinfo=UTC)),
    ):
        try:
            parse(text)
        except InvalidInput:
            pass


def test_moments_are_times_or_durations_back() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert units.parse_moment("2026-01-01T00:00:00.5Z", now) == int(now.timestamp()) * 10**9 + 5 * 10**8
    assert units.parse_moment("10m", now) == int(now.timestamp() - 600) * 10**9
    assert units.parse_moment("1136073600.25", now) == 1136073600_250000000
    with pytest.raises(InvalidInput) as raised:
        units.parse_moment("soon", now)
    assert "24h" in str(raised.value.hint)


def test_volumes() -> None:
    named = mounts.parse_volume("data:/srv:ro", cwd="/w")
    assert (named.type, named.source, named.target, named.readonly) == ("volume", "data", "/srv", True)
    bind = mounts.parse_volume("./src:/app/", cwd="/w")
    assert (bind.type, bind.source, bind.target, bind.create_source) == ("bind", "/w/src", "/app", True)
    anonymous = mounts.parse_volume("/cache", cwd="/w")
    assert (anonymous.type, anonymous.source) == ("volume", "")


@pytest.mark.parametrize(
    "text", ["", ":", "a:b:c:d", "data:relative", "a/b:/c", "/a:/", "/a:/b:rx", "/a:/b:ro,rw", "v:/b:shared"]
)
def test_other_volumes_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        mounts.parse_volume(text, cwd="/w")


def test_mounts() -> None:
    bind = mounts.parse_mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave", cwd="/w")
    assert (bind.source, bind.target, bind.readonly, bind.propagation) == ("/a", "/b", True, "rslave")
    assert not bind.create_source
    tmpfs = mounts.parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1777", cwd="/w")
    assert tmpfs.options == ("size=1048576", "mode=1777")
    volume = mounts.parse_mount('source=v,target=/v,"volume-opt=o=uid=1,gid=2",volume-label=a=b', cwd="/w")
    assert volume.driver_options == (("o", "uid=1,gid=2"),) and volume.labels == (("a", "b"),)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "type=nope,target=/a",
        "type=bind,target=/a",
        "target=a",
        "src=v",
        "type=bind,src=/a,dst=/b,volume-nocopy",
        "x=1",
    ],
)
def test_other_mounts_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        mounts.parse_mount(text, cwd="/w")


def test_limits() -> None:
    assert limits.parse_ulimit("nofile=1024:2048") == limits.Ulimit("nofile", 1024, 2048)
    assert limits.parse_ulimit("core=-1") == limits.Ulimit("core", -1, -1)
    assert limits.parse_device("/dev/null:/dev/x:r") == limits.DeviceRequest("/dev/null", "/dev/x", "r")
    assert limits.parse_device("/dev/null:rw").permissions == "rw"
    assert limits.parse_restart("on-failure:3") == ("on-failure", 3)
    assert [limits.parse_signal(text) for text in ("9", "KILL", "sigterm", "RTMIN+1")] == [9, 9, 15, 35]
    assert limits.parse_add_host("a:[::1]") == ("a", "::1")
    assert limits.parse_add_host("h=host-gateway") == ("h", "host-gateway")


def test_environment() -> None:
    known = {"HOME": "/me"}.get
    assert environment.parse_env("HOME", known) == "HOME=/me"
    assert environment.parse_env("NO", known) == "NO"
    content = b"\xef\xbb\xbf# comment\nA=1 # kept\n  B = \nHOME\nNO\n"
    with pytest.raises(InvalidInput, match="whitespaces"):
        environment.parse_env_file(content, "f", known)
    assert environment.parse_env_file(b"A=1 # kept\r\n\nHOME\nNO\n", "f", known) == ("A=1 # kept", "HOME=/me")


def test_later_variables_win_and_bare_names_remove() -> None:
    assert environment.merged(("A=1", "B=2", "A=3", "B")) == ("A=3",)


@pytest.mark.parametrize("text", ["net.ipv4.ip_forward=1", "kernel.shmmax=5", "fs.mqueue.msg_max=9", "kernel.msgmax="])
def test_settings_of_a_namespace_are_sysctls(text: str) -> None:
    assert "=".join(limits.parse_sysctl(text)) == text


@pytest.mark.parametrize(
    "text", ["kernel.core_pattern=|/x", "kernel.hostname=x", "vm.swappiness=1", "net.a/../../kernel/x=1", "net.x", ""]
)
def test_settings_of_the_host_are_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not allowed"):
        limits.parse_sysctl(text)

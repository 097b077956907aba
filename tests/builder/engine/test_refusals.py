"""Requests that docker refuses, each with its words."""

from dataclasses import replace

import pytest

from builder.engine.refusals import check
from builder.engine.requests import (
    Attachment,
    ContainerRequest,
    HealthRequest,
    LimitRequest,
    NetworkRequest,
    SecurityRequest,
)
from builder.errors import InvalidInput
from runtime.ports import PortMapping
from runtime.spec import Resources

HOST = NetworkRequest(attachments=(Attachment("host"),))
FORWARD = LimitRequest(sysctls=(("net.ipv4.ip_forward", "1"),))
MESSAGES = LimitRequest(sysctls=(("kernel.msgmax", "1"),))


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (ContainerRequest("x", limits=LimitRequest(Resources(memory=1 << 20))), "Minimum memory limit"),
        (ContainerRequest("x", limits=LimitRequest(Resources(memory_swap=1 << 30))), "always set the Memory limit"),
        (ContainerRequest("x", limits=LimitRequest(cpus=10**15)), "Range of CPUs is from 0.01 to"),
        (ContainerRequest("x", limits=LimitRequest(cpus=1)), "Range of CPUs is from 0.01 to"),
        (ContainerRequest("x", limits=LimitRequest(Resources(cpuset_cpus="x"))), "Invalid value x for cpuset cpus"),
        (ContainerRequest("x", limits=LimitRequest(oom_score_adj=1001)), "range for oom score adj"),
        (ContainerRequest("x", health=HealthRequest(interval=1000)), "Interval in Healthcheck cannot be less than 1ms"),
        (ContainerRequest("x", network=NetworkRequest((Attachment("n", mac="xx"),))), "xx is not a valid mac address"),
        (ContainerRequest("x", network=NetworkRequest((Attachment("bridge", ("a",)),))), "user-defined networks"),
        (ContainerRequest("x", network=HOST, limits=FORWARD), "not allowed in host network namespace"),
        (
            ContainerRequest("x", security=SecurityRequest(ipc="host"), limits=MESSAGES),
            "not allowed in host IPC namespace",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_container_could_be_made_of_is_refused(request_: ContainerRequest, what: str) -> None:
    with pytest.raises(InvalidInput, match=what):
        check(request_)


def test_what_is_in_range_is_not() -> None:
    check(ContainerRequest("x", limits=LimitRequest(Resources(cpuset_cpus="0-3,7"), cpus=10**9, oom_score_adj=-1000)))
    check(ContainerRequest("x", network=NetworkRequest((Attachment("n", ("a",), mac="02:42:0A:00:00:01"),))))
    check(ContainerRequest("x", limits=FORWARD, health=HealthRequest(interval=10**6)))


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (ContainerRequest("x", hostname="h"), "hostname and the network mode"),
        (ContainerRequest("x", network=NetworkRequest(dns=("1.1.1.1",))), "dns and the network mode"),
        (ContainerRequest("x", network=NetworkRequest(extra_hosts=(("a", "1.1.1.1"),))), "custom host-to-IP mapping"),
        (ContainerRequest("x", network=NetworkRequest(ports=(PortMapping(80, "tcp"),))), "port publishing"),
        (ContainerRequest("x", network=NetworkRequest(publish_all=True)), "port publishing"),
        (ContainerRequest("x", network=NetworkRequest(expose=("80/tcp",))), "port exposing"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_owner_of_a_shared_network_has_decided(request_: ContainerRequest, what: str) -> None:
    check(request_)
    shared = replace(request_.network, attachments=(Attachment("container:other"),))
    with pytest.raises(InvalidInput, match=f"conflicting options: {what}"):
        check(replace(request_, network=shared))

"""Which variables a word sees: global, stage, RUN."""

from builder.oci.platforms import Platform
from builder.pipeline import scope
from parser.words import expand


def test_command_line_beats_default_and_default_sees_earlier_arguments() -> None:
    declared = [("A", "a"), ("B", "$A-b"), ("C", "c"), ("D", None)]
    assert scope.global_scope(declared, {"C": "given"}, {}, expand) == {"A": "a", "B": "a-b", "C": "given"}


def test_platform_arguments_can_be_given() -> None:
    automatic = scope.platform_args(Platform("linux", "amd64"), Platform("linux", "arm", "v7"), "")
    assert automatic["TARGETPLATFORM"] == "linux/arm/v7"
    assert automatic["TARGETSTAGE"] == "default"
    assert scope.global_scope([], {"TARGETARCH": "odd"}, automatic, expand)["TARGETARCH"] == "odd"


def test_the_later_of_arg_and_env_wins_and_a_bare_arg_changes_nothing() -> None:
    stage = scope.StageScope()
    stage.enter({"V": "base"})
    stage.declare("V", "arg", {}, {}, expand)
    assert stage.env["V"] == "arg"
    assert stage.declare("V", None, {}, {}, expand) is None
    assert stage.run_args() == (("V", "arg"),)


def test_image_environment_covers_inherited_arguments() -> None:
    one = scope.StageScope()
    one.declare("V", "arg", {}, {}, expand)
    two = scope.StageScope(one)
    two.enter({"V": "image"})
    assert (two.env["V"], one.env["V"]) == ("image", "arg")


def test_proxies_come_in_both_cases() -> None:
    found = scope.proxy_environment({"http_proxy": "p", "OTHER": "x", "NO_PROXY": ""})
    assert found == (("HTTP_PROXY", "p"), ("http_proxy", "p"))

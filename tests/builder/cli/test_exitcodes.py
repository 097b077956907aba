"""Every error class of the three trees has an exit code of its own or through a base that is in the table."""

from collections.abc import Iterator

import pytest

from builder import errors
from builder.cli.exitcodes import EXIT, exit_code
from builder.cli.flags import UsageError
from builder.cli.gotemplate import TemplateError, UnreadableTemplate
from parser.errors import DockerfileError
from runtime import errors as runtime_errors


def below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    yield kind
    for each in kind.__subclasses__():
        yield from below(each)


CLASSES = sorted(
    {*below(errors.EngineError), *below(runtime_errors.ContainerError), *below(DockerfileError)},
    key=lambda kind: kind.__qualname__,
)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__qualname__)
def test_every_error_class_has_an_exit_code(kind: type[BaseException]) -> None:
    assert any(base in EXIT for base in kind.__mro__[:-3] or kind.__mro__)


@pytest.mark.parametrize("kind", [k for k in CLASSES if issubclass(k, runtime_errors.ContainerError)])
def test_codes_of_containers_are_those_that_the_runtime_names(kind: type[runtime_errors.ContainerError]) -> None:
    assert exit_code(kind("x"), command="run") == kind.code


def test_the_same_error_ends_run_with_125_and_others_with_1() -> None:
    error = errors.ImageNotFound("x")
    assert exit_code(error, command="run") == 125
    assert exit_code(error) == exit_code(error, command="create") == exit_code(error, command="exec") == 1
    assert exit_code(UsageError("x")) == 125
    assert exit_code(RuntimeError()) == 1


def test_a_process_that_the_container_refuses_ends_exec_with_126_and_start_with_1() -> None:
    error = runtime_errors.ContainerError("unable to find user x")
    assert exit_code(error, command="exec") == 126
    assert exit_code(error, command="start") == 1
    assert exit_code(runtime_errors.CommandNotFound("x"), command="exec") == 127
    assert exit_code(runtime_errors.CommandNotFound("x"), command="start") == 127


def test_only_inspect_has_a_code_of_its_own_for_a_template() -> None:
    assert exit_code(TemplateError("x")) == 1 and exit_code(UnreadableTemplate("x")) == 64

"""Which exit code each error ends a command with: the only place that knows.

docker's numbers: 1 for what failed, 125 for a flag that cannot be read and for `run` or `exec` that could not do their
work (`FOR_CONTAINERS`), 126 for a program that cannot be executed, 127 for one that is not there, 130 after Ctrl-C,
64 for a template of `inspect` that cannot be read.
"""

from __future__ import annotations

from builder import errors
from builder.cli.flags import UsageError
from builder.cli.gotemplate import TemplateError
from parser.errors import DockerfileError
from runtime import errors as runtime_errors

FAILED = 1
FOR_CONTAINERS = 125
"""What `run`, `create` and `exec` end with instead of FAILED."""

EXIT: dict[type[BaseException], int] = {
    UsageError: 125,
    TemplateError: 64,
    KeyboardInterrupt: 130,
    DockerfileError: FAILED,
    errors.EngineError: FAILED,
    errors.InvalidInput: FAILED,
    errors.NotFound: FAILED,
    errors.Conflict: FAILED,
    errors.StoreError: FAILED,
    errors.BuildError: FAILED,
    errors.TransferError: FAILED,
    errors.Unsupported: FAILED,
    runtime_errors.ContainerError: FOR_CONTAINERS,
    runtime_errors.CommandNotFound: 127,
    runtime_errors.CommandNotInvocable: 126,
}
"""An error's class, or the nearest of its bases here, gives the code."""


def exit_code(error: BaseException, *, for_container: bool = False) -> int:
    """The code for `error`; `for_container`: the command is one of run, create, exec, start."""
    for kind in type(error).__mro__:
        code = EXIT.get(kind)
        if code is not None:
            if for_container:
                return FOR_CONTAINERS if code == FAILED else code
            # docker's other commands end with 1 when a container could not be started
            return FAILED if code == FOR_CONTAINERS and not isinstance(error, UsageError) else code
    return FOR_CONTAINERS if for_container else FAILED

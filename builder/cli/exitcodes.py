"""Which exit code each error ends a command with: the only place that knows.

docker's numbers: 1 for what failed, 125 for a flag that cannot be read and for a `run` that could not do its work
(`FOR_CONTAINERS`), 126 for a program that cannot be executed and for an `exec` that the container refused
(`FOR_EXEC`), 127 for a program that is not there, 130 after Ctrl-C, 64 for a template of `inspect` that cannot be read.
"""

from __future__ import annotations

from builder import errors
from builder.cli.flags import UsageError
from builder.cli.gotemplate import TemplateError, UnreadableTemplate
from parser.errors import DockerfileError
from runtime import errors as runtime_errors

FAILED = 1
FOR_CONTAINERS = 125
"""What `run` ends with instead of FAILED."""
FOR_EXEC = 126
"""What `exec` ends with when the container is there and runs, but its process could not be made."""

EXIT: dict[type[BaseException], int] = {
    UsageError: 125,
    TemplateError: FAILED,
    UnreadableTemplate: 64,
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


def exit_code(error: BaseException, *, command: str = "") -> int:
    """The code for `error` in the command whose last word is `command`."""
    for kind in type(error).__mro__:
        code = EXIT.get(kind)
        if code is not None:
            if command == "run":
                return FOR_CONTAINERS if code == FAILED else code
            if code != FOR_CONTAINERS or isinstance(error, UsageError):
                return code
            # docker's other commands end with 1 when a container could not be started
            return FOR_EXEC if command == "exec" else FAILED
    return FOR_CONTAINERS if command == "run" else FAILED

"""What can go wrong with a container. Errors carry facts, a text in docker's words, and docker's exit code.

ContainerError                   125  the root of the tree; also anything that has no name of its own
├── CommandNotFound              127  the program, or the directory to start in, does not exist
├── CommandNotInvocable          126  it exists but cannot be executed (a directory, no permission, wrong format)
├── UserNotFound                 125  no such user or group in the image, or an id out of range
├── MountFailed                  125  a mount could not be made or its target is not allowed
├── ResourceUnavailable          125  a limit was asked for that this host cannot enforce
├── KernelUnsupported            125  the kernel lacks or refuses something that containers need
├── SpecInvalid                  125  the specification contradicts itself
├── LauncherDied                 125  the process that starts containers went away
├── WrongState                   125  the container is not in a state in which this can be done
│   └── NotRunning               125  it does not run
├── NetworkError                 125  a network, address or port that cannot be had
│   ├── NetworkNotFound          125
│   ├── NetworkExists            125
│   └── NetworkInUse             125  containers are connected
└── VolumeError                  125  a volume that cannot be made or mounted
    ├── VolumeNotFound           125
    └── VolumeInUse              125  containers use it

An error made inside a container travels to the command as ``to_wire()`` gives it and is made again by
``from_wire()``; so every class takes ``(message, *, hint=None)`` and holds nothing else.
"""

from __future__ import annotations


class ContainerError(Exception):
    """A container could not be made, started or entered. *code* is what `docker run` would exit with.

    *excerpt* is for a caller who knows a text that asked for the container."""

    code = 125
    excerpt: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_wire(self) -> tuple[str, str, str | None]:
        """(class name, message, hint): plain values that any process can decode."""
        return (type(self).__name__, self.message, self.hint)


class CommandNotFound(ContainerError):
    """The program to execute was not found."""

    code = 127


class CommandNotInvocable(ContainerError):
    """The program was found, but the kernel would not execute it."""

    code = 126


class UserNotFound(ContainerError):
    """The user or group is not in the image's passwd or group file, or the number is out of range."""


class MountFailed(ContainerError):
    """A mount could not be made, or its target lies where nothing may be mounted."""


class ResourceUnavailable(ContainerError):
    """A limit was asked for that no cgroup controller on this host can enforce."""


class KernelUnsupported(ContainerError):
    """The kernel lacks something, or refuses it to this user."""


class SpecInvalid(ContainerError):
    """The specification asks for things that exclude each other."""


class LauncherDied(ContainerError):
    """The launcher ended while it was needed."""


class WrongState(ContainerError):
    """The container's state does not allow it."""


class NotRunning(WrongState):
    """The container does not run."""


class NetworkError(ContainerError):
    """A network, address or port cannot be had."""


class NetworkNotFound(NetworkError):
    """No network has this name or id."""


class NetworkExists(NetworkError):
    """The name is taken."""


class NetworkInUse(NetworkError):
    """Containers are connected to it."""


class VolumeError(ContainerError):
    """A volume cannot be made or mounted."""


class VolumeNotFound(VolumeError):
    """No volume has this name."""


class VolumeInUse(VolumeError):
    """Containers use it."""


def from_wire(name: str, message: str, hint: str | None) -> ContainerError:
    """The error that ``to_wire`` described; a plain ContainerError when no class has that name."""
    classes = [ContainerError]
    for cls in classes:
        if cls.__name__ == name:
            return cls(message, hint=hint)
        classes.extend(cls.__subclasses__())
    return ContainerError(message, hint=hint)

"""The engines that are compared, each a way to turn a workload's action into a command line.

An engine keeps everything below a directory that it is given and is stopped at the end.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from workloads import BASE, Action, Build, Exec, Load, Pull, Push, Run, Save


@dataclass(frozen=True, slots=True)
class Timing:
    """One run of a command: wall seconds, its peak memory in bytes (the largest single process, be it the command or
    the daemon that works for it), its exit code."""

    seconds: float
    peak: int
    code: int


def timed(command: list[str], environment: Mapping[str, str], log: Path) -> Timing:
    with open(log, "ab") as output:
        output.write(f"\n$ {command}\n".encode())
        output.flush()
        start = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, **environment}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
    return Timing(seconds, usage.ru_maxrss * 1024, process.returncode)


def unmount_below(directory: Path) -> None:
    """Take away what a daemon left mounted (the namespace of its host network)."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", mount], check=False)


class Engine(AbstractContextManager["Engine"]):
    """An engine with docker's command line; subclasses say where they differ."""

    name = ""
    program = ""
    container = "bench-exec"
    runs = True
    insecure: tuple[str, ...] = ()
    """What `push` and `pull` need for a registry on loopback without TLS."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True)
        self.log = directory / "log"
        self.environment: dict[str, str] = {}

    @classmethod
    def installed(cls) -> bool:
        return shutil.which(cls.program) is not None

    def start(self, base: Path) -> None:
        """Import the base image, and start the container that `Exec` enters."""
        self.do("import", str(base), BASE)
        try:
            self.do("run", "-d", "--name", self.container, "--network", "none", BASE, "sleep", "100000")
        except RuntimeError as err:
            print(f"{self.name} runs no containers here, so exec is left out: {err}", file=sys.stderr)
            self.runs = False

    def do(self, *arguments: str) -> None:
        timing = timed([*self.prefix(), *arguments], self.environment, self.log)
        if timing.code:
            raise RuntimeError(f"{self.name}: {arguments} ended with {timing.code}, see {self.log}")

    def prefix(self) -> list[str]:
        return [self.program]

    def command(self, action: Action) -> list[str] | None:
        """The command line for `action`, or None where this engine cannot do it."""
        match action:
            case Build(context, tag, cached, network):
                flags = [] if cached else ["--no-cache"]
                if network != "default":
                    flags.append(f"--network={network}")
                return [*self.prefix(), "build", *flags, "-t", tag, str(context)]
            case Run(network):
                return [*self.prefix(), "run", "--rm", f"--network={network}", BASE, "true"]
            case Exec() | Run() if not self.runs:
                return None
            case Exec():
                return [*self.prefix(), "exec", self.container, "true"]
            case Save(tag):
                return [*self.prefix(), "save", "-o", str(self.directory / "saved.tar"), tag]
            case Load():
                return [*self.prefix(), "load", "-i", str(self.directory / "saved.tar")]
            case Push(tag):
                return [*self.prefix(), "push", *self.insecure, tag]
            case Pull(tag):
                return [*self.prefix(), "pull", *self.insecure, tag]

    def before(self, action: Action) -> None:
        """What must be undone ahead of another round."""
        match action:
            case Save():
                (self.directory / "saved.tar").unlink(missing_ok=True)
            case Load(tag) | Pull(tag):
                timed([*self.prefix(), "rmi", "-f", tag], self.environment, self.log)
            case Push(_, data):
                shutil.rmtree(data / "docker", ignore_errors=True)

    def time(self, action: Action) -> Timing | None:
        command = self.command(action)
        return None if command is None else timed(command, self.environment, self.log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        timed([*self.prefix(), "rm", "-f", self.container], self.environment, self.log)


class Lamina(Engine):
    name = "lamina"
    program = str(Path(sys.executable).parent / "lamina")

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment = {"LAMINA_ROOT": str(directory / "root")}

    def before(self, action: Action) -> None:
        super().before(action)
        if isinstance(action, Load | Pull):
            # The layers of a removed image stay while they are cached; a load that finds them would have no work.
            timed([*self.prefix(), "builder", "prune", "-af"], self.environment, self.log)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        # It also takes the store's bridge and firewall rules off the host.
        timed([*self.prefix(), "system", "prune", "-f"], self.environment, self.log)


class Docker(Engine):
    """A Docker daemon of its own, with the classic builder or BuildKit."""

    name = "docker"
    program = "/usr/bin/docker"
    buildkit = "1"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.environment = {"DOCKER_HOST": f"unix://{directory}/sock", "DOCKER_BUILDKIT": self.buildkit}
        self.had_bridge = Path("/sys/class/net/docker0").exists()
        with open(self.log, "ab") as output:
            self.daemon = subprocess.Popen(
                [
                    "dockerd",
                    f"--data-root={directory}/data",
                    f"--exec-root={directory}/exec",
                    f"--pidfile={directory}/pid",
                    f"--host=unix://{directory}/sock",
                    "--storage-driver=overlay2",
                ],
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + 30
        while timed([*self.prefix(), "version"], self.environment, self.log).code:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"the docker daemon did not start, see {self.log}")
            time.sleep(0.2)

    @classmethod
    def installed(cls) -> bool:
        return shutil.which("dockerd") is not None and super().installed()

    def command(self, action: Action) -> list[str] | None:
        if isinstance(action, Build) and "deep1000" in action.tag:
            return None  # more layers than the engine mounts
        return super().command(action)

    def before(self, action: Action) -> None:
        super().before(action)
        if isinstance(action, Pull):
            # BuildKit's cache shares its layers with images.
            timed([*self.prefix(), "builder", "prune", "-af"], self.environment, self.log)

    def time(self, action: Action) -> Timing | None:
        process = Path(f"/proc/{self.daemon.pid}")
        (process / "clear_refs").write_text("5")  # the daemon's peak is from here on
        timing = super().time(action)
        peak = re.search(r"VmHWM:\s+(\d+) kB", (process / "status").read_text())
        assert peak is not None
        return timing and replace(timing, peak=max(timing.peak, int(peak[1]) * 1024))

    def stop(self) -> None:
        self.daemon.send_signal(signal.SIGTERM)
        try:
            self.daemon.wait(30)
        except subprocess.TimeoutExpired:
            self.daemon.kill()
            self.daemon.wait()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        self.stop()
        unmount_below(self.directory)
        if not self.had_bridge:
            subprocess.run(["ip", "link", "delete", "docker0"], check=False, stderr=subprocess.DEVNULL)


class DockerClassic(Docker):
    name = "docker-classic"
    buildkit = "0"

    def command(self, action: Action) -> list[str] | None:
        return super().command(action) if isinstance(action, Build) else None


class Podman(Engine):
    name = "podman"
    program = "podman"
    insecure = ("--tls-verify=false",)

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)

    def prefix(self) -> list[str]:
        return [
            "podman",
            f"--root={self.directory}/root",
            f"--runroot={self.directory}/run",
            "--storage-driver=overlay",
            "--cgroup-manager=cgroupfs",
            "--runtime=runc" if shutil.which("runc") else "--runtime=crun",
        ]

    def command(self, action: Action) -> list[str] | None:
        if isinstance(action, Build) and "deep1000" in action.tag:
            return None
        command = super().command(action)
        if command and isinstance(action, Build):
            command[len(self.prefix()) + 1 : len(self.prefix()) + 1] = ["--layers"]
        return command


class Buildah(Engine):
    """Builds only; the other actions are podman's."""

    name = "buildah"
    program = "buildah"

    def prefix(self) -> list[str]:
        return [
            "buildah",
            f"--root={self.directory}/root",
            f"--runroot={self.directory}/run",
            "--storage-driver=overlay",
        ]

    def start(self, base: Path) -> None:
        place = self.directory / "base"
        place.mkdir()
        (place / "Dockerfile").write_text("FROM scratch\nADD base.tar /\nENV PATH=/usr/bin:/bin:/usr/sbin:/sbin\n")
        shutil.copy(base, place / "base.tar")
        self.do("build", "-t", BASE, str(place))

    def command(self, action: Action) -> list[str] | None:
        if not isinstance(action, Build) or "deep1000" in action.tag:
            return None
        command = super().command(action)
        if command:
            command[len(self.prefix()) + 1 : len(self.prefix()) + 1] = ["--layers", "--isolation=oci"]
        return command


class Skopeo(Engine):
    """Copies only: a pull or load leaves the blobs as they are in a directory, nothing is unpacked; what it pushes and
    saves is an OCI layout that lamina has made."""

    name = "skopeo"
    program = "skopeo"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.maker = Lamina(directory / "maker")

    def start(self, base: Path) -> None:
        self.maker.do("import", str(base), BASE)

    def command(self, action: Action) -> list[str] | None:
        place, image, saved = (f"{self.directory}/{name}" for name in ("pulled", "image", "saved.tar"))
        match action:
            case Build(context, tag) if tag.endswith(("bench-transfer:1", "bench-archive")):
                root = f"--root={self.maker.environment['LAMINA_ROOT']}"
                output = f"type=oci,tar=false,dest={image}"
                return [*self.maker.prefix(), root, "build", "-q", "-t", "image", "-o", output, str(context)]
            case Push(tag):
                return self._copy("--dest-tls-verify=false", f"oci:{image}:latest", f"docker://{tag}")
            case Pull(tag):
                return self._copy("--src-tls-verify=false", f"docker://{tag}", f"dir:{place}")
            case Save():
                return self._copy(f"oci:{image}:latest", f"docker-archive:{saved}")
            case Load():
                return self._copy(f"docker-archive:{saved}", f"dir:{place}")
        return None

    def _copy(self, *arguments: str) -> list[str]:
        return ["skopeo", "--insecure-policy", "copy", *arguments]

    def before(self, action: Action) -> None:
        shutil.rmtree(self.directory / "pulled", ignore_errors=True)
        if isinstance(action, Save | Push):
            super().before(action)

    def __exit__(self, *_: object) -> None:
        pass


ENGINES: dict[str, type[Engine]] = {
    each.name: each for each in (Lamina, Docker, DockerClassic, Buildah, Podman, Skopeo)
}

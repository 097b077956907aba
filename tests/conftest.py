"""What every test may use: the one place where root tests are skipped, and the real command with a store of its own."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from registryserver import RegistryServer

from builder.store import trees

SHARED = Path(__file__).parent.parent.parent / "shared"
BLOCKED = Path(__file__).parent / "support/blocked.conf"
# Registries are those that a test makes: whatever is started here, also by other means than `Lamina`, knows no other.
os.environ["CONTAINERS_REGISTRIES_CONF"] = str(BLOCKED)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # We were started with & by a script, and what a test starts and interrupts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
SCRIPT = Path(sys.executable).parent / "lamina"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason="needs root"))


def below(root: Path) -> list[str]:
    """Mounts below `root` that any process sees, and other processes that name it in their arguments."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit() or int(process.name) == os.getpid():
            continue
        try:
            mounts = (process / "mountinfo").read_text()
            arguments = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        found += [line for line in mounts.splitlines() if str(root) in line]
        if str(root) in arguments:
            found.append(arguments)
    return found


@pytest.fixture(scope="session")
def leftovers() -> Callable[[Path], list[str]]:
    """What still runs or is mounted below a directory."""
    return below


@pytest.fixture(scope="session", autouse=True)
def nothing_stays(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set up first, so checked last: a run ends with no mount and no process of its own."""
    base = tmp_path_factory.getbasetemp()
    yield
    assert below(base) == []


@dataclass(frozen=True, slots=True)
class Lamina:
    """The installed console script on one store directory, as a user types it."""

    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list, repr=False)

    def __call__(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        cwd: Path | None = None,
        code: int | None = 0,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it and check the exit code (`code=None`: any)."""
        done = subprocess.run(
            self.command(*arguments),
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=self.variables(environment),
            timeout=900,
            check=False,
        )
        if code is not None and done.returncode != code:
            text = (done.stdout + done.stderr).decode(errors="replace")
            pytest.fail(f"lamina {' '.join(map(str, arguments))} ended with {done.returncode}, not {code}:\n{text}")
        return done

    def text(self, *arguments: str | Path, **options: object) -> str:
        """Its standard output without the last line break."""
        return self(*arguments, **options).stdout.decode().removesuffix("\n")  # type: ignore[arg-type]

    def start(self, *arguments: str | Path, **options: object) -> subprocess.Popen[bytes]:
        """A process under way, in a process group of its own; it ends with the store at the latest."""
        process: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            self.command(*arguments), env=self.variables(None), start_new_session=True, **options
        )
        self.started.append(process)
        return process

    def command(self, *arguments: str | Path) -> Sequence[str]:
        return [str(SCRIPT), *map(str, arguments)]

    def variables(self, more: Mapping[str, str] | None) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM", "TMPDIR") if name in os.environ}
        # Nor does it see what the user of this machine has set up.
        own = {"CONTAINERS_REGISTRIES_CONF": str(BLOCKED), "DOCKER_CONFIG": str(self.root / "no-config")}
        own["XDG_CONFIG_HOME"] = str(self.root / "no-config")
        return {**kept, **own, "LAMINA_ROOT": str(self.root), **self.environment, **(more or {})}


@contextmanager
def store(root: Path) -> Iterator[Lamina]:
    """A store at `root`; whatever runs in it is ended and its host resources are given back, also after a failure."""
    lamina = Lamina(root)
    try:
        yield lamina
    finally:
        for process in lamina.started:
            process.kill()
            process.wait()
        containers = lamina("ps", "-aq", code=None).stdout.decode().split()
        if containers:
            lamina("rm", "-f", "-v", *containers, code=None)
        # it also takes the store's bridges and firewall rules off the host
        lamina("system", "prune", "-f", code=None)
        trees.remove(root)  # shutil and pytest cannot remove trees as deep as some tests make them


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time, for what all workers of a run share."""
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def base_archives(run_directory: Path) -> "BaseArchives":
    return BaseArchives(run_directory)


@dataclass(frozen=True, slots=True)
class BaseArchives:
    """Base images as `save` archives, bootstrapped once in a run."""

    directory: Path

    def get(self, name: str) -> Path:
        """The archive of `bootstrap NAME`."""
        archive = self.directory / f"{name.replace(':', '-')}.tar"
        with locked(archive.with_suffix(".lock")):
            if not archive.exists():
                with store(self.directory / f"bootstrap-{name.replace(':', '-')}") as lamina:
                    lamina("bootstrap", name)
                    lamina("save", "-o", archive, name)
        return archive


@pytest.fixture
def lamina(tmp_path: Path) -> Iterator[Lamina]:
    """The command on an empty store."""
    with store(tmp_path / "store") as command:
        yield command


@pytest.fixture
def registry() -> Iterator[RegistryServer]:
    """A registry on loopback that does what a test says."""
    with RegistryServer() as server:
        yield server


@pytest.fixture
def busybox(lamina: Lamina, base_archives: BaseArchives) -> Lamina:
    """The command on a store that has busybox:latest."""
    lamina("load", "-i", base_archives.get("busybox"))
    return lamina


@pytest.fixture
def machines(tmp_path: Path, base_archives: BaseArchives) -> Iterator[Callable[[], Lamina]]:
    """Each call gives the command on a new store that has a busybox base image and nothing else."""
    with ExitStack() as undo:

        def made() -> Lamina:
            command = undo.enter_context(store(tmp_path / f"machine-{os.urandom(4).hex()}"))
            command("load", "-q", "-i", base_archives.get("busybox"))
            return command

        yield made


@pytest.fixture(scope="session")
def busybox_store(run_directory: Path, base_archives: BaseArchives) -> Iterator[Lamina]:
    """As `busybox`, but one per worker and run, for tests that only run containers and remove them."""
    root = run_directory / f"busybox-{os.getpid()}"
    with store(root) as command:
        command("load", "-i", base_archives.get("busybox"))
        yield command


@pytest.fixture(scope="session")
def debian(run_directory: Path, base_archives: BaseArchives) -> Iterator[Lamina]:
    """The command on a store, one per worker and run, that has debian:bookworm: it is big, so its tests share it."""
    root = run_directory / f"debian-{os.getpid()}"
    with store(root) as command:
        command("load", "-i", base_archives.get("debian:bookworm"))
        yield command


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data beside the checkout."""
    if not SHARED.is_dir():
        pytest.skip("the reference data is not beside this checkout")
    return SHARED

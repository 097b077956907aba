"""A store, a registry on loopback, and a client that does not wait."""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from builder.store import Store
from builder.transfer.registry import settings
from builder.transfer.registry.client import Client
from builder.transfer.registry.credentials import Keyring
from builder.transfer.registry.session import Registries

Connect = Callable[..., Registries]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as opened:
        yield opened
        assert opened.fsck(full=True) == ()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Registries as the user with this environment has them; pauses are counted in `pauses`, not waited for."""
    with ExitStack() as undo:

        def connected(environment: Mapping[str, str] | None = None, pauses: list[float] | None = None) -> Registries:
            environment = {"HOME": str(tmp_path / "home"), **(environment or {})}
            waited: list[float] = [] if pauses is None else pauses
            client = Client(
                settings.load(environment, etc=tmp_path / "etc"),
                Keyring(environment, timeout=0.5),
                sleep=waited.append,
                jitter=lambda: 1.0,
            )
            return undo.enter_context(Registries(environment, client=client))

        yield connected


def tar(**files: bytes) -> bytes:
    """A layer as other tools write it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_700_000_000
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@pytest.fixture(scope="session")
def layer() -> Callable[..., bytes]:
    return tar

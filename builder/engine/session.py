"""The open store with what runs on it: the launcher, the volumes, the networks, the clock.

`Engine` never goes below `engine/`: functions hand on the part that is needed. The launcher starts at its first use, so
that commands which run nothing start no process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from builder.store import Store
    from runtime.container import Launcher
    from runtime.networks import Networks
    from runtime.supervisor_client import Prepared
    from runtime.volumes import Volumes


class Engine:
    """One open store. A context manager; closing it ends the launcher."""

    def __init__(self, store: Store, root: Path, *, clock: Callable[[], datetime]) -> None:
        self.store = store
        self.root = root
        self.clock = clock
        self._launcher: Launcher | None = None
        self._guard = threading.Lock()
        self._prepared: Prepared | None = None

    @classmethod
    def open(cls, root: Path, *, clock: Callable[[], datetime]) -> Engine:
        """Open (or make) the store at `root`. Raises StoreError."""
        from builder.store import Store

        return cls(Store.open(root), root, clock=clock)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """End the launcher and close the store."""
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None
        if self._prepared is not None:
            self._prepared.cancel()
            self._prepared = None
        self.store.close()

    def launcher(self) -> Launcher:
        """The launcher, made at the first call, of whichever thread."""
        with self._guard:
            if self._launcher is None:
                from runtime.container import Launcher

                self._launcher = Launcher()
            return self._launcher

    def prepare_supervisor(self, *, networks: bool) -> None:
        """A container will be started: its supervisor loads what it needs, `networks` too, while we get on."""
        from runtime import supervisor_client

        if self._prepared is None:
            self._prepared = supervisor_client.prepare(networks=networks)

    def supervisor(self) -> Prepared:
        """A supervisor that waits for its container: the prepared one, once."""
        self.prepare_supervisor(networks=False)
        prepared, self._prepared = self._prepared, None
        assert prepared is not None
        return prepared

    @property
    def networks(self) -> Networks:
        """The networks of this root."""
        from runtime.networks import Networks

        return Networks(self.root / "networks")

    @property
    def volumes(self) -> Volumes:
        """The volumes of this root."""
        from runtime.volumes import Volumes

        return Volumes(self.root / "volumes")

    def now_text(self) -> str:
        """The time in RFC 3339 with nanoseconds, as docker's documents have it."""
        return self.clock().isoformat(timespec="microseconds").replace("+00:00", "") + "000Z"

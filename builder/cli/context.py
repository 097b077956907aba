"""What a command is given: the environment, the streams, the store it works on.  Nothing else reads them.

The engine is opened on first use: `--help`, completion of flags and usage errors touch no store.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path
    from typing import IO, BinaryIO

    from builder.engine.session import Engine
    from builder.store.database import Database


class Cli:
    """One invocation.  Close it (context manager) to close what it opened."""

    def __init__(self, env: Mapping[str, str], *, root: str = "", debug: bool = False) -> None:
        self.env = env
        self.debug = debug
        self._root = root
        self._engine: Engine | None = None
        self._database: Database | None = None

    def __enter__(self) -> Cli:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._engine is not None:
            self._engine.close()
        if self._database is not None:
            self._database.close()

    def choose_root(self, root: str) -> None:
        """Take --root, when it was given."""
        self._root = root or self._root

    def choose_config(self, directory: str) -> None:
        """Take --config, when it was given: where docker's clients keep config.json."""
        if directory:
            self.env = {**self.env, "DOCKER_CONFIG": os.path.abspath(directory)}

    @property
    def store(self) -> str:
        """The store's directory: --root, LAMINA_ROOT, or the user's default place."""
        chosen = self._root or self.env.get("LAMINA_ROOT", "")
        if chosen:
            return os.path.abspath(chosen)
        if os.geteuid() == 0:
            return "/var/lib/lamina"
        data = self.env.get("XDG_DATA_HOME") or os.path.join(self.env.get("HOME", "/"), ".local/share")
        return os.path.join(data, "lamina")

    @property
    def root(self) -> Path:
        """`store`, as a path."""
        from pathlib import Path

        return Path(self.store)

    @property
    def engine(self) -> Engine:
        """The engine on the store, opened now if it was not.  A plain user enters the user namespace first."""
        if self._engine is None:
            from builder.engine.session import Engine

            self.become()
            self._engine = Engine.open(self.root, clock=self.now)
            self._sweep(self._engine)
        return self._engine

    @property
    def database(self) -> Database:
        """The store's database, for a command that needs no more of it than a few rows.  Where there is no store, or
        somebody died before us and is to be swept after, the engine is opened."""
        if self._engine is not None:
            return self._engine.store.database
        if self._database is None:
            from builder.store.database import Database
            from builder.store.leases import Leases

            self.become()
            path = f"{self.store}/lamina.db"
            database = Database(path) if os.path.exists(path) else None
            if database is None or Leases(database, f"{self.store}/leases", lambda: 0).any_dead():
                if database is not None:
                    database.close()
                return self.engine.store.database
            self._database = database
        return self._database

    def become(self) -> None:
        """A plain user enters the user namespace that his containers are in."""
        if os.geteuid() != 0:
            from runtime import userns

            self._root = self.store  # in there it would be root's
            place = self.env.get("XDG_RUNTIME_DIR")
            userns.enter(f"{place}/lamina" if place else f"/tmp/lamina-{os.getuid()}")

    def _sweep(self, engine: Engine) -> None:
        """Finish what the command before us was killed in; that this fails is no matter of the command's."""
        from builder.engine import autoremove

        try:
            autoremove.sweep(engine)
        except Exception as error:  # noqa: BLE001  said with --debug, and found again by the next command
            if self.debug:
                self.say(f"sweep: {type(error).__name__}: {error}")

    @property
    def cwd(self) -> Path:
        """The working directory."""
        from pathlib import Path

        return Path.cwd()

    @property
    def directory(self) -> str:
        """The working directory, as text."""
        return os.getcwd()

    def now(self) -> datetime:
        """The time, in UTC."""
        from datetime import UTC, datetime

        return datetime.now(UTC)

    def out(self, text: str) -> None:
        """Data: a line on stdout."""
        sys.stdout.write(text + "\n")

    def say(self, text: str) -> None:
        """Talk: a line on stderr."""
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def raw_out(self) -> IO[bytes]:
        """stdout for bytes; what was written as text before comes first."""
        sys.stdout.flush()
        return sys.stdout.buffer

    def raw_in(self) -> BinaryIO:
        """stdin for bytes."""
        return sys.stdin.buffer

    def terminal_in(self) -> bool:
        """Whether stdin is a terminal."""
        return _tty(0)

    def width(self) -> int:
        """Columns of the terminal, 80 where there is none."""
        import shutil

        return shutil.get_terminal_size((80, 24)).columns

    def terminal_out(self) -> bool:
        """Whether stdout is a terminal."""
        return _tty(1)

    def terminal_err(self) -> bool:
        """Whether stderr is a terminal."""
        return _tty(2)

    def confirm(self, question: str) -> bool:
        """Ask; nothing typed, the end of stdin and Ctrl-C are no."""
        import click

        try:
            return click.confirm(question, prompt_suffix=" ")
        except click.Abort:
            self.out("")
            return False

    def each(self, names: list[str], act: Callable[[str], object], *, echo: bool = True) -> int:
        """Do `act` for every name, echo the names that worked, report the others, and give the exit code."""
        from builder.cli import app

        code = 0
        for name in names:
            try:
                act(name)
            except app.reported() as error:
                self.say(app.message(error))
                code = 1
            else:
                if echo:
                    self.out(name)
        return code


def _tty(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False

"""Whether a container's supervisor lives: told by its lock, without a trace of having asked."""

import fcntl
import os
from pathlib import Path

from runtime import states
from runtime.linux import inotify


def test_a_lock_that_is_held_tells_a_supervisor_and_asking_wakes_nobody(tmp_path: Path) -> None:
    assert not states.alive(tmp_path)
    with open(tmp_path / "lock", "w") as lock:
        assert not states.alive(tmp_path)
        fcntl.flock(lock, fcntl.LOCK_EX)
        watch = inotify.init()
        try:
            inotify.add_watch(watch, str(tmp_path), inotify.IN_MODIFY | inotify.IN_CLOSE_WRITE)
            assert states.alive(tmp_path)
            assert list(inotify.events(watch)) == []
        finally:
            os.close(watch)

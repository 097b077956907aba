"""A busybox root file system, and containers started on it by a real launcher."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runtime import defaults
from runtime.container import Exit, Launcher
from runtime.spec import Process, Rootfs, Spec

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
GROUP = "root:x:0:\nstaff:x:50:app\napp:x:1000:\n"


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A layer with busybox, its applets, /etc/passwd and /etc/group. Read only."""
    root = tmp_path_factory.mktemp("busybox")
    static = "/bin/busybox"
    if not os.path.exists(static):
        cache = Path(tempfile.gettempdir()) / "lamina-test-busybox"
        cache.mkdir(exist_ok=True)
        if not list(cache.glob("*.deb")):
            subprocess.run(["apt-get", "download", "busybox-static"], cwd=cache, check=True, capture_output=True)
        subprocess.run(["dpkg", "-x", str(next(cache.glob("*.deb"))), str(root / "deb")], check=True)
        static = str(
            next(path for path in (root / "deb").rglob("busybox") if path.parent.name == "bin" and path.is_file())
        )
    layer = root / "layer"
    for name in ("bin", "etc", "tmp", "root"):
        (layer / name).mkdir(parents=True)
    shutil.copy(static, layer / "bin/busybox")
    (layer / "bin/busybox").chmod(0o755)
    applets = subprocess.run([static, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (layer / "bin" / applet).symlink_to("busybox")
    (layer / "etc/passwd").write_text(PASSWD)
    (layer / "etc/group").write_text(GROUP)
    return layer


@pytest.fixture(scope="module")
def launcher() -> Iterator[Launcher]:
    with Launcher() as launcher:
        yield launcher


@dataclass
class Box:
    """Runs containers on one upper directory and gives their output."""

    launcher: Launcher
    lowers: tuple[str, ...]
    upper: Path
    work: Path
    another: bool = False

    def spec(self, *argv: str, **fields: object) -> Spec:
        rootfs = Rootfs(self.lowers, str(self.upper), str(self.work), volatile=True)
        process = Process(argv, **fields)  # type: ignore[arg-type]
        return defaults.build_spec(f"test-{uuid.uuid4().hex}", rootfs, process)

    def run(self, spec: Spec) -> tuple[Exit, str]:
        with tempfile.TemporaryFile() as out:
            running = self.launcher.start(spec, stdout=out.fileno(), stderr=out.fileno(), another=self.another)
            result = running.wait(60)
            out.seek(0)
            return result, out.read().decode(errors="replace")

    def shell(self, script: str, change: Callable[[Spec], Spec] = lambda spec: spec, **fields: object) -> str:
        result, text = self.run(change(self.spec("sh", "-c", script, **fields)))
        assert result.code == 0, text
        return text

    def on(self, *layers: Path) -> Box:
        """The same with *layers* (topmost first) above its own."""
        return replace(self, lowers=(*map(str, layers), *self.lowers))


@pytest.fixture
def box(launcher: Launcher, busybox: Path, tmp_path: Path) -> Box:
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    return Box(launcher, (str(busybox),), tmp_path / "upper", tmp_path / "work")

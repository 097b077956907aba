"""The workloads that lamina and its peers are timed on: contexts made afresh, and what to run in each round.

A workload prepares one directory per run of the benchmark, and says for each of its *cases* (first, unchanged, …) what
to do before the clock starts and what is timed. It knows no engine: engines.py turns `Build`, `Run`, … into commands.
"""

import json
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

BASE = "bench-base:1"
"""Tag of the busybox image that every engine has before the first round."""


@dataclass(frozen=True, slots=True)
class Build:
    """Build `context`; `cached` says whether the engine may use its cache."""

    context: Path
    tag: str
    cached: bool = False
    network: str = "none"


@dataclass(frozen=True, slots=True)
class Run:
    """`run --rm` of the base image with `true`, on `network`."""

    network: str


@dataclass(frozen=True, slots=True)
class Exec:
    """`exec` of `true` in a container that runs already."""


@dataclass(frozen=True, slots=True)
class Save:
    tag: str


@dataclass(frozen=True, slots=True)
class Load:
    """Load what `Save` of the same engine wrote, after the image was removed."""

    tag: str


@dataclass(frozen=True, slots=True)
class Push:
    """Push an image to the registry on loopback that keeps its blobs in `data`, which is empty before."""

    tag: str
    data: Path


@dataclass(frozen=True, slots=True)
class Pull:
    """Pull what was pushed last, after the engine has forgotten all about it."""

    tag: str


Action = Build | Run | Exec | Save | Load | Push | Pull


@dataclass(frozen=True, slots=True)
class Case:
    """One figure: `before(n)` runs untimed ahead of round `n` (0 is the warm-up), then `action` is timed."""

    name: str
    action: Action
    before: Callable[[int], None] = field(default=lambda n: None)
    rounds: int = 5
    needs: tuple[Action, ...] = ()
    """Done once, untimed, ahead of the first round."""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def noop(directory: Path) -> Iterator[Case]:
    """A fully cached rebuild of 20 instructions."""
    write(
        directory / "Dockerfile",
        f"""FROM {BASE}
ARG VERSION=1
ENV APP=/app MODE=production
LABEL org.example.version=$VERSION
WORKDIR /app
RUN echo one > one
RUN echo two > two
COPY a.txt .
RUN cat a.txt > three
COPY b.txt c.txt ./
ENV LATE=1
RUN echo four > four
COPY src/ src/
RUN find src -type f | wc -l > count
LABEL org.example.done=yes
USER 1000:1000
EXPOSE 8080
VOLUME /data
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh"]
CMD ["-c", "cat count"]
""",
    )
    for name in ("a.txt", "b.txt", "c.txt", *(f"src/{n}.txt" for n in range(20))):
        write(directory / name, f"{name}\n")
    build = Build(directory, "bench-noop", cached=True)
    yield Case("noop", build, rounds=15, needs=(build,))


def run30(directory: Path) -> Iterator[Case]:
    """30 small RUN steps, nothing cached; on no network, since most of a peer's RUN is network set-up."""
    lines = "".join(f"RUN echo {n} > /f{n}\n" for n in range(30))
    write(directory / "Dockerfile", f"FROM {BASE}\n{lines}")
    yield Case("run30 none", Build(directory, "bench-run30"))
    yield Case("run30 default", Build(directory, "bench-run30", network="default"), rounds=2)


def copy50k(directory: Path) -> Iterator[Case]:
    """COPY of 50,000 files of 1 KiB in 500 directories."""
    write(directory / "Dockerfile", f"FROM {BASE}\nCOPY tree /tree\n")
    content = random.Random(0)
    for folder in range(500):
        place = directory / "tree" / f"{folder:03}"
        place.mkdir(parents=True)
        for name in range(100):
            (place / f"{name:02}").write_bytes(content.randbytes(1024))

    def change_all(n: int) -> None:
        """Other bytes in every file: what was read for an earlier round must not help a first build."""
        for folder in range(500):
            for name in range(100):
                with open(directory / "tree" / f"{folder:03}" / f"{name:02}", "r+b") as file:
                    file.write(content.randbytes(16))

    def change_one(n: int) -> None:
        (directory / "tree" / "250" / "50").write_bytes(content.randbytes(1024))

    build = Build(directory, "bench-copy50k", cached=True)
    yield Case("copy50k first", build, change_all, rounds=3)
    yield Case("copy50k unchanged", build, rounds=5)
    yield Case("copy50k one changed", build, change_one, rounds=3)


def copybig(directory: Path) -> Iterator[Case]:
    """COPY of one file of 1 GiB."""
    write(directory / "Dockerfile", f"FROM {BASE}\nCOPY big /big\n")
    with open(directory / "big", "wb") as file:
        for _ in range(1024):
            file.write(os.urandom(1 << 20))

    def change(n: int) -> None:
        with open(directory / "big", "r+b") as file:
            file.write(os.urandom(16))

    yield Case("copybig", Build(directory, "bench-copybig", cached=True), change, rounds=3)


def diamond(directory: Path) -> Iterator[Case]:
    """Two stages that each sleep 2 s, and a third that copies from both."""
    write(
        directory / "Dockerfile",
        f"FROM {BASE} AS a\nRUN sleep 2; echo a > /a\nFROM {BASE} AS b\nRUN sleep 2; echo b > /b\n"
        f"FROM {BASE}\nCOPY --from=a /a /\nCOPY --from=b /b /\n",
    )
    yield Case("diamond", Build(directory, "bench-diamond"), rounds=3)


def run(directory: Path) -> Iterator[Case]:
    for network in ("bridge", "none", "host"):
        yield Case(f"run {network}", Run(network), rounds=10)
    yield Case("exec", Exec(), rounds=10)


def archive(directory: Path) -> Iterator[Case]:
    """save and load of 500 MiB in 10 layers."""
    lines = ""
    for n in range(10):
        (directory / f"part{n}").write_bytes(os.urandom(50 << 20))
        lines += f"COPY part{n} /\n"
    write(directory / "Dockerfile", f"FROM {BASE}\n{lines}")
    yield Case("save", Save("bench-archive"), rounds=3, needs=(Build(directory, "bench-archive", cached=True),))
    yield Case("load", Load("bench-archive"), rounds=3)


def transfer(directory: Path) -> Iterator[Case]:
    """push and pull of 500 MiB in 10 layers, with Debian's docker-registry on loopback."""
    lines = ""
    for n in range(10):
        (directory / f"part{n}").write_bytes(os.urandom(50 << 20))
        lines += f"COPY part{n} /\n"
    write(directory / "Dockerfile", f"FROM {BASE}\n{lines}")
    with registry(directory / "registry") as (host, data):
        tag = f"{host}/bench-transfer:1"
        yield Case("push", Push(tag, data), rounds=3, needs=(Build(directory, tag, cached=True),))
        yield Case("pull", Pull(tag), rounds=3)


@contextmanager
def registry(directory: Path) -> Iterator[tuple[str, Path]]:
    """A docker-registry: where it listens, and where it keeps its blobs."""
    data = directory / "data"
    data.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    config = {"version": "0.1", "storage": {"filesystem": {"rootdirectory": str(data)}}, "http": {"addr": host}}
    write(directory / "config.yml", json.dumps(config))
    with open(directory / "log", "wb") as log:
        server = subprocess.Popen(["docker-registry", "serve", str(directory / "config.yml")], stdout=log, stderr=log)
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", int(host.rpartition(":")[2]))).close()
                break
            except OSError:
                time.sleep(0.05)
        yield host, data
    finally:
        server.terminate()
        server.wait()


def deep(directory: Path) -> Iterator[Case]:
    """1,000 RUN lines where an engine can; per-step time is the figure divided by the count."""
    for count in (10, 100, 1000):
        lines = "".join(f"RUN echo {n} > /f{n}\n" for n in range(count))
        place = directory / str(count)
        write(place / "Dockerfile", f"FROM {BASE}\n{lines}")
        yield Case(f"deep {count}", Build(place, f"bench-deep{count}"), rounds=1)


WORKLOADS: dict[str, Callable[[Path], Iterator[Case]]] = {
    "noop": noop,
    "run30": run30,
    "copy50k": copy50k,
    "copybig": copybig,
    "diamond": diamond,
    "run": run,
    "archive": archive,
    "transfer": transfer,
    "deep": deep,
}

"""The console script itself, in its own process: outputs, exit codes, what lands where."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import builder

SCRIPT = [sys.executable, "-c", "import sys; from builder.cli import main; sys.exit(main())"]


class Lamina:
    def __init__(self, root: Path) -> None:
        self.root = root

    def __call__(self, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        env = dict(os.environ, LAMINA_ROOT=str(self.root), LC_ALL="C.UTF-8")
        return subprocess.run([*SCRIPT, *words], input=stdin, capture_output=True, env=env, timeout=60, check=False)

    def ok(self, *words: str, stdin: bytes = b"") -> str:
        done = self(*words, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


@pytest.fixture
def lamina(tmp_path: Path) -> Lamina:
    return Lamina(tmp_path / "store")


def small_root() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, data in (("etc/motd", b"hello\n"), ("bin/tool", b"#!/bin/sh\n")):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


def test_the_version_is_the_projects(lamina: Lamina) -> None:
    assert lamina.ok("--version") == f"lamina version {builder.VERSION}\n"
    project = Path(__file__).parents[3].joinpath("pyproject.toml").read_text()
    assert f'version = "{builder.VERSION}"' in project
    assert not lamina.root.exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["biuld"], 1, "unknown command: lamina biuld"),
        (["image", "lss"], 1, "Did you mean this?\n\tls"),
        (["ps", "--nope"], 125, "unknown flag: --nope"),
        (["run", "--nope", "x"], 125, "Run 'lamina run --help' for more information"),
        (["run", "--memory", "x", "y"], 125, 'invalid argument "x" for "-m, --memory" flag: invalid size: \'x\''),
        (["tag", "a"], 1, "'lamina tag' requires 2 arguments"),
        (["run"], 1, "'lamina run' requires at least 1 argument"),
        (["ps", "x"], 1, "accepts no arguments"),
        (["run", "--gpus", "all", "x"], 125, "GPUs are not supported"),
    ],
)
def test_usage_errors_say_what_is_wrong_on_stderr(lamina: Lamina, words: list[str], code: int, text: str) -> None:
    done = lamina(*words)
    assert done.returncode == code
    assert text in done.stderr.decode() and not done.stdout


def test_help_needs_no_store(lamina: Lamina) -> None:
    assert "Usage:  lamina [OPTIONS] COMMAND" in lamina.ok("--help")
    assert "-m, --memory bytes" in lamina.ok("run", "--help")
    assert "Usage:  lamina [OPTIONS] COMMAND" in lamina.ok("-h")
    assert "Usage:  lamina pull [OPTIONS]" in lamina.ok("pull", "-h")
    assert "Usage:  lamina image COMMAND" in lamina.ok("image", "-h")
    assert "Manage images" in lamina.ok("image")
    assert not lamina.root.exists()


def completed(lamina: Lamina, shell: str, line: str) -> list[str]:
    """What the shell's script gets for a command line that ends at the cursor."""
    words = line.split(" ")
    last = words[-1] if shell == "fish" else str(len(words) - 1)
    env = dict(os.environ, LAMINA_ROOT=str(lamina.root), COMP_WORDS=line, COMP_CWORD=last)
    env["_LAMINA_COMPLETE"] = f"{shell}_complete"
    done = subprocess.run(SCRIPT, capture_output=True, env=env, timeout=60, check=False, text=True)
    assert not done.stderr
    return done.stdout.splitlines()


def test_completion_offers_commands_flags_and_words(lamina: Lamina) -> None:
    assert completed(lamina, "bash", "lamina imag") == ["plain,image", "plain,imagetools", "plain,images"]
    assert completed(lamina, "bash", "lamina image l") == ["plain,load", "plain,ls"]
    assert completed(lamina, "bash", "lamina run --cpuset-c") == ["plain,--cpuset-cpus"]
    assert completed(lamina, "zsh", "lamina run --cpuset-c") == [
        "plain",
        "--cpuset-cpus",
        "CPUs in which to allow execution (0-3, 0,1)",
    ]
    assert completed(lamina, "fish", "lamina completion ") == ["plain,bash", "plain,fish", "plain,zsh"]
    assert completed(lamina, "bash", "lamina build -f ") == ["file,"]
    assert completed(lamina, "bash", "lamina run -it --network n")[-1] == "plain,none"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_the_command_itself(lamina: Lamina, shell: str) -> None:
    script = lamina.ok("completion", shell)
    assert f"_LAMINA_COMPLETE={shell}_complete" in script
    assert b"unknown shell tcsh" in lamina("completion", "tcsh").stderr
    interpreter = shutil.which(shell)
    if interpreter is not None:
        assert subprocess.run([interpreter, "-n"], input=script.encode(), timeout=60, check=False).returncode == 0


def test_bash_completes_a_command_line(lamina: Lamina, tmp_path: Path) -> None:
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    program = bin_directory / "lamina"
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom builder.cli import main\nsys.exit(main())\n")
    program.chmod(0o755)
    script = lamina.ok("completion", "bash")
    driver = script + (
        "\nCOMP_WORDS=(lamina container rena); COMP_CWORD=2; _lamina_completion lamina rena container\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = dict(os.environ, LAMINA_ROOT=str(lamina.root), PATH=f"{bin_directory}:{os.environ['PATH']}")
    env["PYTHONPATH"] = str(Path(__file__).parents[3])
    done = subprocess.run(["bash", "-c", driver], capture_output=True, env=env, timeout=60, check=False, text=True)
    assert done.stdout == "rename\n" and not done.stderr


def test_click_is_for_help_and_completion_only(lamina: Lamina, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")

    def modules(*words: str) -> set[str]:
        # the import log names every module that was loaded
        command = [sys.executable, "-X", "importtime", *SCRIPT[1:], *words]
        env = dict(os.environ, LAMINA_ROOT=str(lamina.root))
        done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}

    lamina.ok("build", "-q", str(tmp_path))
    assert "click" in modules("build", "--help")
    for words in (["build", "-q", str(tmp_path)], ["images"], ["ps"], ["version"]):
        assert not modules(*words) & {
            "click",
            "lark",
            "parser.checks",
            "rich",
            "pyroute2",
            "zstandard",
            "tarfile",
            "asyncio",
        }
    assert len(modules("--version") & {"builder", "builder.cli", "builder.cli.app", "parser", "runtime"}) == 2


@pytest.mark.parametrize(("typed", "gone"), [(b"y\n", True), (b"\n", False), (b"n\n", False), (b"", False)])
def test_prune_asks_first(lamina: Lamina, typed: bytes, gone: bool) -> None:
    lamina.ok("volume", "create", "kept")
    done = lamina("volume", "prune", "-a", stdin=typed)
    assert b"Are you sure you want to continue? [y/N] " in done.stdout
    assert (lamina.ok("volume", "ls", "-q") == "") == gone


def test_a_closed_pipe_is_no_accident(lamina: Lamina) -> None:
    line = " ".join(f"'{word}'" for word in SCRIPT)
    env = dict(os.environ, LAMINA_ROOT=str(lamina.root))
    command = ["bash", "-c", f"{line} run --help | head -1"]
    done = subprocess.run(command, capture_output=True, env=env, timeout=60, check=False)
    assert done.stdout.startswith(b"Usage") and not done.stderr


@pytest.mark.root
def test_an_image_comes_in_is_named_shown_and_goes(lamina: Lamina, tmp_path: Path) -> None:
    image_id = lamina.ok("import", "-c", 'CMD ["/bin/tool"]', "-m", "made", "-", "base:1", stdin=small_root()).strip()
    assert image_id.startswith("sha256:")
    lamina.ok("tag", "base:1", "other")
    assert lamina.ok("images", "-q").split() == [image_id[7:19]]
    table = lamina.ok("images").splitlines()
    assert table[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"] and len(table) == 3
    assert lamina.ok("images", "--format", "{{.Repository}}:{{.Tag}}", "oth*") == "other:latest\n"
    assert lamina.ok("inspect", "-f", "{{json .Config.Cmd}}", "base:1") == '["/bin/tool"]\n'
    (document,) = json.loads(lamina.ok("image", "inspect", "other"))
    assert document["Id"] == image_id and document["RepoTags"] == ["base:1", "other:latest"]
    assert "made" in lamina.ok("history", "--no-trunc", "other")
    archive = tmp_path / "x.tar"
    lamina.ok("save", "-o", str(archive), "other")
    assert lamina.ok("rmi", "other") == "Untagged: other:latest\n"
    assert f"Deleted: {image_id}" in lamina.ok("rmi", "base:1")
    assert lamina("history", "other").returncode == 1
    assert lamina.ok("load", stdin=archive.read_bytes()) == "Loaded image: other:latest\n"
    assert lamina.ok("images", "-q", "--no-trunc").strip() == image_id


@pytest.mark.root
def test_what_is_not_there_is_told_with_the_right_code(lamina: Lamina) -> None:
    for words, code in (
        (["rmi", "no:1"], 1),
        (["run", "--pull=never", "no"], 125),
        (["rm", "no"], 1),
        (["save", "no"], 1),
    ):
        done = lamina(*words)
        assert done.returncode == code and b"No such" in done.stderr and not done.stdout
    assert lamina("rmi", "-f", "no:1").returncode == 0
    assert lamina("inspect", "no").stdout == b"[]\n"
    assert b"invalid reference format" in lamina("tag", "a", "UPPER:x").stderr

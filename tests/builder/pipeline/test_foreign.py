"""Which RUN can run here is decided before anything is done for it."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.errors import Unsupported
from builder.oci.platforms import Platform
from builder.pipeline import cachekeys
from builder.pipeline.foreign import Emulation
from builder.pipeline.lookup import StepState
from builder.pipeline.request import BuildRequest
from builder.pipeline.steps import RunStep, StepSpec
from builder.store import Store
from builder.store.buildcache import CacheRecord
from parser.source import Source
from runtime import binfmt
from runtime.binfmt import Handler
from runtime.values import replace

AMD64, X86, ARM64 = (Platform("linux", name) for name in ("amd64", "386", "arm64"))


def handler(interpreter: Path | str, *, fixed: bool, architecture: str = "arm64") -> Handler:
    return Handler("qemu", str(interpreter), fixed, 0, binfmt.elf_head(architecture), b"")


def emulation(*handlers: Handler) -> Emulation:
    return Emulation("x86_64", lambda: handlers)


def test_nothing_is_needed_for_what_the_machine_runs_itself_or_a_fixed_handler() -> None:
    def never() -> tuple[Handler, ...]:
        raise AssertionError("nobody has to look")

    assert all(Emulation("x86_64", never).interpreters(platform, ()) == () for platform in (AMD64, X86))
    assert emulation(handler("/nowhere", fixed=True)).interpreters(ARM64, ()) == ()


def test_without_a_handler_it_is_said_and_where_nobody_can_see_one_it_is_tried() -> None:
    other = handler("/q", fixed=True, architecture="s390x")
    for platform in (ARM64, Platform("windows", "amd64")):
        with pytest.raises(Unsupported, match=f"this machine .x86_64. cannot run programs for {platform}") as caught:
            emulation(other).interpreters(platform, ())
        assert "qemu-user-static" in str(caught.value.hint)
    assert Emulation("x86_64", lambda: None).interpreters(ARM64, ()) == ()


def test_an_emulator_that_is_not_fixed_is_shown_to_the_step_unless_the_image_has_it(tmp_path: Path) -> None:
    program, layer = tmp_path / "qemu", tmp_path / "layer"
    found = emulation(handler(program, fixed=False))
    with pytest.raises(Unsupported, match="emulator, is neither here nor in the image"):
        found.interpreters(ARM64, (layer,))
    program.touch()
    assert found.interpreters(ARM64, (layer,)) == (str(program),)
    inside = Path(f"{layer}{program}")
    inside.parent.mkdir(parents=True)
    inside.symlink_to("elsewhere")
    assert found.interpreters(ARM64, (layer,)) == ()
    # nobody knows which of several the kernel takes
    both = emulation(handler("/nowhere", fixed=False), handler(program, fixed=False), handler("/f", fixed=True))
    assert both.interpreters(ARM64, ()) == (str(program),)


@pytest.mark.root
def test_a_step_that_ran_on_its_platform_may_still_be_found(tmp_path: Path) -> None:
    source = Source.of(b"FROM scratch\nRUN a\n", name="Dockerfile")
    request = BuildRequest(b"")

    def step(platform: Platform, *, forced: bool = False) -> tuple[StepSpec, StepState]:
        spec = StepSpec(1, RunStep(("a",), (), platform), None, (), "", 1, 1, "RUN a", "", None, forced)
        leaves = cachekeys.leaves(spec, request)
        state = StepState(key=cachekeys.key(leaves, "scratch"), leaves=leaves, step=cachekeys.identity(spec, leaves))
        return spec, state

    def keep(store: Store, state: StepState) -> None:
        store.buildcache.put(CacheRecord(state.key, state.step, "RUN a", state.leaves))

    def check(store: Store, *pairs: tuple[StepSpec, StepState]) -> None:
        states: Sequence[StepState] = [state for _, state in pairs]
        emulation().check([spec for spec, _ in pairs], states, store, source)

    with Store.open(tmp_path / "store") as store:
        check(store, step(AMD64))
        with pytest.raises(Unsupported):
            check(store, step(ARM64))
        keep(store, step(AMD64)[1])
        with pytest.raises(Unsupported):
            check(store, step(ARM64))
        keep(store, step(ARM64)[1])
        check(store, step(ARM64))
        with pytest.raises(Unsupported):
            check(store, step(ARM64, forced=True))
        assert replace(request, platforms=(ARM64, AMD64)).indexed and not replace(request, platforms=(ARM64,)).indexed

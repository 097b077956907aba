"""Times lamina and every peer that is installed, in turn in one run, and prints medians and ratios.

    python tests/bench/run.py                          # everything
    python tests/bench/run.py -w noop -w run30 -e lamina -e docker --json bench.json

Absolute times on shared machines mean little; the ratio of medians inside one run does. Each round runs every engine
once, so that a slow minute of the machine falls on all of them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from engines import ENGINES, Engine, Lamina, Timing, timed
from workloads import WORKLOADS, Case


def measure(case: Case, engines: list[Engine]) -> dict[str, list[Timing]]:
    """Timings by engine; an engine that cannot do the case, or failed at it, is left out and named on stderr."""
    able = list(engines)
    for engine in engines:
        for action in case.needs:
            timing = engine.time(action)
            if timing is None or timing.code:
                able.remove(engine)
                break
    found: dict[str, list[Timing]] = {engine.name: [] for engine in able}
    warm_up = 0 if case.rounds == 1 else 1
    for n in range(case.rounds + warm_up):
        case.before(n)
        for engine in list(able):
            engine.before(case.action)
            timing = engine.time(case.action)
            if timing is None or timing.code:
                if timing is not None:
                    print(f"{case.name}: {engine.name} ended with {timing.code}, see {engine.log}", file=sys.stderr)
                able.remove(engine)
                del found[engine.name]
            elif n >= warm_up:
                found[engine.name].append(timing)
    return found


def start_up(python: str, log: Path) -> dict[str, list[Timing]]:
    """`--version` beside a bare interpreter."""
    found: dict[str, list[Timing]] = {"lamina": [], "python": []}
    for _ in range(20):
        found["lamina"].append(timed([Lamina.program, "--version"], {}, log))
        found["python"].append(timed([python, "-c", "pass"], {}, log))
    return found


def parse(directory: Path) -> dict[str, list[Timing]]:
    """100,000 lines, in a process of its own."""
    directory.mkdir()
    big = directory / "Dockerfile"
    big.write_text("FROM busybox\n" + "".join(f"RUN echo {n} > /f{n}\n" for n in range(99_999)))
    program = "import sys, parser; parser.parse(open(sys.argv[1]).read())"
    return {"lamina": [timed([sys.executable, "-c", program, str(big)], {}, directory / "log") for _ in range(3)]}


def row(name: str, found: dict[str, list[Timing]]) -> dict[str, object]:
    medians = {engine: statistics.median(each.seconds for each in timings) for engine, timings in found.items()}
    peers = {engine: median for engine, median in medians.items() if engine != "lamina"}
    best = min(peers, key=peers.__getitem__, default=None)
    return {
        "case": name,
        "seconds": {engine: [round(each.seconds, 4) for each in timings] for engine, timings in found.items()},
        "median": {engine: round(median, 4) for engine, median in medians.items()},
        "peak_bytes": {engine: max(each.peak for each in timings) for engine, timings in found.items()},
        "best_peer": best,
        "ratio": round(medians["lamina"] / peers[best], 3) if best and "lamina" in medians else None,
    }


def show(rows: list[dict[str, object]], names: list[str]) -> None:
    head = f"{'case':22}" + "".join(f"{name:>16}" for name in names)
    print(f"{head}{'ratio':>9}")
    for each in rows:
        median = each["median"]
        assert isinstance(median, dict)
        cells = "".join(f"{median[name]:16.3f}" if name in median else f"{'–':>16}" for name in names)
        ratio = "–" if each["ratio"] is None else f"{each['ratio']:.2f}"
        print(f"{each['case']:22}{cells}{ratio:>9}")
    print(f"\n{head}   peak memory, MB")
    for each in rows:
        peak = each["peak_bytes"]
        assert isinstance(peak, dict)
        cells = "".join(f"{peak[name] / 1e6:16.0f}" if name in peak else f"{'–':>16}" for name in names)
        print(f"{each['case']:22}{cells}")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("-w", "--workload", action="append", choices=[*WORKLOADS, "start", "parse"])
    arguments.add_argument("-e", "--engine", action="append", choices=list(ENGINES))
    arguments.add_argument("--json", type=Path, help="write every single time here too")
    arguments.add_argument("--keep", action="store_true", help="keep the working directory (logs)")
    options = arguments.parse_args()
    # With it an edited checkout is compiled again at each start, which is nobody's installation.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    chosen = options.workload or [*WORKLOADS, "start", "parse"]
    names = [name for name in (options.engine or ENGINES) if ENGINES[name].installed()]

    directory = Path(tempfile.mkdtemp(prefix="bench-"))
    rows: list[dict[str, object]] = []
    try:
        with ExitStack() as stack:
            base = directory / "base.tar"
            first = {"LAMINA_ROOT": str(directory / "base-root")}
            for command in (("bootstrap", "busybox"), ("create", "--name", "base", "busybox")):
                assert timed([Lamina.program, *command], first, directory / "log").code == 0, directory / "log"
            assert timed([Lamina.program, "export", "-o", str(base), "base"], first, directory / "log").code == 0
            engines: list[Engine] = []
            for name in names:
                try:
                    engine = stack.enter_context(ENGINES[name](directory / name))
                    engine.start(base)
                except (RuntimeError, OSError) as err:
                    print(f"{name} is left out: {err}", file=sys.stderr)
                else:
                    engines.append(engine)
            for workload in chosen:
                if workload == "start":
                    rows.append(row("start", start_up(sys.executable, directory / "log")))
                elif workload == "parse":
                    rows.append(row("parse 100,000 lines", parse(directory / "parse")))
                else:
                    place = directory / "work" / workload
                    place.mkdir(parents=True)
                    for case in WORKLOADS[workload](place):
                        print(f"{case.name} …", file=sys.stderr)
                        rows.append(row(case.name, measure(case, engines)))
                    shutil.rmtree(place)
            show(rows, [*(engine.name for engine in engines), *(["python"] if "start" in chosen else [])])
    finally:
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
        if options.keep:
            print(f"kept: {directory}", file=sys.stderr)
        else:
            subprocess.run(["rm", "-rf", "--one-file-system", str(directory)], check=False)


if __name__ == "__main__":
    main()

"""Compares the engine with other libraries; `run` next to this file prepares what it needs and starts it."""

from __future__ import annotations

import argparse
import json
import os
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from suite import aggregation, bench, check, network, report
from suite.library import Library, commands, pin_to_one_core, start
from suite.parameters import NETWORK_RUNS

STEPS = ["check", "bench", "report"]
REPOSITORY = Path(__file__).resolve().parents[2]
# The aggregation that is measured: an update of a million parameters, ten contributors.
VALUES, CONTRIBUTORS = 1_000_000, 10


def start_all(stack: ExitStack) -> dict[str, Library]:
    """One process for each library, ours first."""
    libraries = {key: stack.enter_context(start(key)) for key in commands()}
    for key, library in libraries.items():
        print(f"{key}: {library.about}", flush=True)
    return libraries


def run_bench(rounds: int) -> dict[str, Any]:
    """Everything that is measured. Single operations and the aggregation on one core, the network on one and on all."""
    load = os.getloadavg()[0]
    cores = os.sched_getaffinity(0)
    core = pin_to_one_core()
    with ExitStack() as stack:
        libraries = start_all(stack)
        result: dict[str, Any] = {
            "date": datetime.now(UTC).date().isoformat(),
            "core": core,
            "load": load,
            "cores": len(cores),
            "about": {key: library.about for key, library in libraries.items()},
            "operations": bench.bench(libraries, rounds),
        }
        print(f"aggregation of {CONTRIBUTORS} contributors of {VALUES} values", flush=True)
        result["aggregation"] = aggregation.run(libraries, VALUES, CONTRIBUTORS, bench.SEED)
    result["networks"] = []
    for run in NETWORK_RUNS:
        os.sched_setaffinity(0, cores if run.threads > 1 else {core})
        # A process of its own, so that its peak memory is that of the network.
        with start(run.library, run.threads) as library:
            measured = network.run(library, run.batch, run.threads, run.runs, run.parameters)
        seconds = measured["server_s"]
        print(f"network: {run.library}, {run.threads} thread(s), {seconds:.2f} s for {run.batch} images", flush=True)
        result["networks"].append({"library": run.library} | measured)
    os.sched_setaffinity(0, cores)
    return result


def main() -> None:
    """The steps that were asked for, in order."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "steps", nargs="*", choices=[*STEPS, []], metavar="step", help="check, bench or report; all by default"
    )
    parser.add_argument("--rounds", type=int, default=bench.ROUNDS, help="rounds of the single operations")
    arguments = parser.parse_args()
    steps = arguments.steps or STEPS
    work = Path(os.environ["GALEN_COMPARE_WORK"])
    if "check" in steps:
        with ExitStack() as stack:
            write(work / "check.json", check.check(start_all(stack)))
    if "bench" in steps:
        write(work / "bench.json", run_bench(arguments.rounds))
    if "report" in steps:
        text = report.markdown(read(work / "bench.json"), read(work / "check.json"))
        (REPOSITORY / "docs" / "performance.md").write_text(text)
        print("docs/performance.md is written")


def write(path: Path, content: dict[str, Any]) -> None:
    """As JSON."""
    path.write_text(json.dumps(content, indent=1))
    print(f"{path} is written")


def read(path: Path) -> dict[str, Any]:
    """From JSON."""
    if not path.exists():
        raise SystemExit(f"{path} is not there: run check and bench first")
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()

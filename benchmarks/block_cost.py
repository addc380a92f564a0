"""Cost of Delta blocks compared with residual and plain ones of equal width, depth and hidden width.

Times forward plus backward of three torsos, interleaved in one process: each repeat times all three in turn, in an
order that rotates, and gives one pair of ratios. Load that lasts longer than a repeat slows all three, so the median of
the paired ratios is meaningful on a busy machine, too.

    .venv/bin/python benchmarks/block_cost.py --readme    # measure, write block_cost.json and README.md's tables
    .venv/bin/python benchmarks/block_cost.py --table     # print the tables of block_cost.json, without measuring
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._inductor.utils import fresh_inductor_cache

from deltarl.torsos import DeltaTorsoSpec, PlainTorsoSpec, ResidualTorsoSpec, StackSpec, Torso
from deltarl.training.provenance import provenance

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
BEGIN, END = "<!-- block_cost: begin -->", "<!-- block_cost: end -->"

SPECS: dict[str, Callable[..., StackSpec]] = {
    "delta": partial(DeltaTorsoSpec, heads=1),
    "residual": ResidualTorsoSpec,
    "plain": PlainTorsoSpec,
}
KINDS = tuple(SPECS)
IN_FEATURES = 17  # HalfCheetah's observation
MIN_REPEATS = 7
MIN_SAMPLE_S = 5e-3
CLOCKS: dict[str, Callable[[], float]] = {"cpu": time.process_time, "wall": time.perf_counter}

# The library's promises: parameters at every shape, and times at the width and batch that SimBa's agents use.
MAX_EXCESS_PERCENT = 1.0
MAX_RATIO = {"eager": 1.25, "compiled": 1.09}
BOUND_WIDTH, BOUND_BATCH, BOUND_DEPTHS = 256, 256, (2, 8)


@dataclass(frozen=True)
class Shape:
    """One row: the torsos' width, depth and hidden width, and the batch that runs through them."""

    width: int
    depth: int
    batch: int
    hidden: int


@dataclass(frozen=True)
class Ratio:
    """Median and quartiles of the ratios to the residual torso, one ratio per repeat."""

    median: float
    q1: float
    q3: float


@dataclass(frozen=True)
class Row:
    """The result for one shape; times in milliseconds per forward and backward."""

    mode: str
    shape: Shape
    parameters: dict[str, int]
    excess_percent: float
    repeats: int
    inner: int
    milliseconds: dict[str, float]
    ratios: dict[str, Ratio]
    compile_s: dict[str, float] | None


def build_torso(kind: str, shape: Shape) -> Torso:
    """A torso of `kind` with default options."""
    return Torso(IN_FEATURES, SPECS[kind](width=shape.width, depth=shape.depth, hidden=shape.hidden))


def make_step(torso: Torso, module: Callable[[Tensor], Tensor], features: Tensor) -> Callable[[], None]:
    """One forward and backward of `module`, which is `torso` or its compiled form, from a random output gradient."""
    parameters = list(torso.parameters())
    output_gradient = torch.randn(len(features), torso.spec.width)

    def step() -> None:
        for parameter in parameters:
            parameter.grad = None
        module(features).backward(output_gradient)  # type: ignore[no-untyped-call]

    return step


def time_steps(step: Callable[[], None], inner: int, clock: Callable[[], float]) -> float:
    """Seconds per step, over `inner` steps."""
    begin = clock()
    for _ in range(inner):
        step()
    return (clock() - begin) / inner


def interleave(
    steps: dict[str, Callable[[], None]], budget_s: float, repeats: int | None, clock: Callable[[], float]
) -> tuple[dict[str, list[float]], int]:
    """Samples of every step in seconds, and the steps that one sample covers.

    Args:
        steps: what to time, by kind.
        budget_s: approximate duration if `repeats` is not given; there are at least `MIN_REPEATS` repeats.
        repeats: number of samples of each, or None to fill the budget.
        clock: returns the time.
    """
    estimates = {}
    for kind, step in steps.items():
        step()
        estimates[kind] = time_steps(step, 1, clock)
    inner = max(1, round(MIN_SAMPLE_S / max(min(estimates.values()), 1e-6) + 0.5))
    if repeats is None:
        # With a multiple of the number of kinds, each kind is first as often as last.
        rounds = int(budget_s / (inner * sum(estimates.values()))) // len(steps) * len(steps)
        repeats = max(MIN_REPEATS, rounds)
    if inner > 1:  # Otherwise each sample is a single step, which is warm by now.
        for step in steps.values():
            time_steps(step, inner, clock)
    samples: dict[str, list[float]] = {kind: [] for kind in steps}
    order = list(steps)
    for _ in range(repeats):
        for kind in order:
            samples[kind].append(time_steps(steps[kind], inner, clock))
        order = order[1:] + order[:1]
    return samples, inner


def paired_ratio(numerator: Sequence[float], denominator: Sequence[float]) -> Ratio:
    """Median and quartiles of the ratios of paired samples."""
    ratios = [above / below for above, below in zip(numerator, denominator, strict=True)]
    q1, median, q3 = statistics.quantiles(ratios, n=4, method="inclusive")
    return Ratio(round(median, 4), round(q1, 4), round(q3, 4))


def compile_steps(torsos: dict[str, Torso], features: Tensor) -> tuple[dict[str, Callable[[], None]], dict[str, float]]:
    """Compiled steps, and the seconds that compiling each of them took (its first step, wall clock).

    Each starts from an empty cache, because the kinds share kernels, which only the first one would compile.
    """
    torch.compiler.reset()
    torch.compile(nn.Linear(2, 2))(torch.zeros(1, 2)).sum().backward()  # the compiler's start counts for no kind
    steps, seconds = {}, {}
    for kind, torso in torsos.items():
        steps[kind] = make_step(torso, torch.compile(torso, dynamic=False), features)
        with fresh_inductor_cache():
            seconds[kind] = round(time_steps(steps[kind], 1, time.perf_counter), 1)
    return steps, seconds


def measure(mode: str, shape: Shape, budget_s: float, repeats: int | None, clock: Callable[[], float]) -> Row:
    """Time the three torsos of one shape."""
    torch.manual_seed(0)
    torsos = {kind: build_torso(kind, shape) for kind in KINDS}
    features = torch.randn(shape.batch, IN_FEATURES)
    compile_s = None
    if mode == "compiled":
        steps, compile_s = compile_steps(torsos, features)
    else:
        steps = {kind: make_step(torso, torso, features) for kind, torso in torsos.items()}
    samples, inner = interleave(steps, budget_s, repeats, clock)
    parameters = {kind: sum(p.numel() for p in torso.parameters()) for kind, torso in torsos.items()}
    return Row(
        mode=mode,
        shape=shape,
        parameters=parameters,
        excess_percent=round(100 * (parameters["delta"] / parameters["residual"] - 1), 3),
        repeats=len(samples["delta"]),
        inner=inner,
        milliseconds={kind: round(1e3 * statistics.median(times), 4) for kind, times in samples.items()},
        ratios={kind: paired_ratio(samples[kind], samples["residual"]) for kind in ("delta", "plain")},
        compile_s=compile_s,
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table with right-aligned columns."""
    lines = [header, ["---:"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def ratio_cell(ratio: dict[str, float]) -> str:
    """`median (q1 to q3)`."""
    return f"{ratio['median']:.3f} ({ratio['q1']:.2f} to {ratio['q3']:.2f})"


def row_cells(row: dict[str, Any]) -> list[str]:
    """One line of the table of times."""
    shape, times = row["shape"], row["milliseconds"]
    cells = [str(shape[name]) for name in ("width", "depth", "batch")]
    cells += [f"{times[kind]:.3g}" if times[kind] < 100 else f"{times[kind]:.0f}" for kind in KINDS]
    cells += [ratio_cell(row["ratios"][kind]) for kind in ("delta", "plain")]
    if row["compile_s"]:
        cells += [f"{row['compile_s'][kind]:.1f}" for kind in KINDS]
    return cells


def times_table(rows: Sequence[dict[str, Any]]) -> str:
    """The times of one mode."""
    header = ["width", "depth", "batch", *(f"{kind}, ms" for kind in KINDS), "delta / residual", "plain / residual"]
    if rows[0]["compile_s"]:
        header += [f"compile {kind}, s" for kind in KINDS]
    return markdown_table(header, map(row_cells, rows))


def parameters_table(rows: Sequence[dict[str, Any]]) -> str:
    """Parameters of each torso, one line for each width and depth."""
    shapes = {(row["shape"]["width"], row["shape"]["depth"]): row for row in rows}
    cells = [
        [str(width), str(depth), str(row["shape"]["hidden"])]
        + [f"{row['parameters'][kind]:,}" for kind in KINDS]
        + [f"{row['excess_percent']:.3f} %"]
        for (width, depth), row in sorted(shapes.items())
    ]
    return markdown_table(["width", "depth", "hidden", *KINDS, "delta over residual"], cells)


def bounds_table(rows: Sequence[dict[str, Any]]) -> str:
    """The library's promises next to the measurements."""
    excess = max(row["excess_percent"] for row in rows)
    cells = [["parameters over residual, largest", f"{MAX_EXCESS_PERCENT:.2f} %", f"{excess:.2f} %"]]
    met = [excess <= MAX_EXCESS_PERCENT]
    for row in rows:
        shape, ratio = row["shape"], row["ratios"]["delta"]["median"]
        if shape["width"] == BOUND_WIDTH and shape["batch"] == BOUND_BATCH and shape["depth"] in BOUND_DEPTHS:
            name = (
                f"time over residual, {row['mode']}, width {BOUND_WIDTH}, depth {shape['depth']}, batch {BOUND_BATCH}"
            )
            cells.append([name, f"{MAX_RATIO[row['mode']]:.2f}", f"{ratio:.3f}"])
            met.append(ratio <= MAX_RATIO[row["mode"]])
    marked = [[*line, "yes" if holds else "no"] for line, holds in zip(cells, met, strict=True)]
    return markdown_table(["bound on delta", "at most", "measured", "holds"], marked)


def render(report: dict[str, Any]) -> str:
    """All tables of a report, as Markdown."""
    rows = report["rows"]
    clock = {"cpu": "processor time", "wall": "wall clock"}[report["clock"]]
    parts = [
        f"Measured with torch {report['packages']['torch']} on {report['processor']} ({report['cores']} cores), "
        f"{report['threads']} thread(s), {clock}, by `{report['command']}`.",
        "### Bounds\n\n" + bounds_table(rows),
        "### Parameters\n\n" + parameters_table(rows),
    ]
    for mode in ("eager", "compiled"):
        chosen = [row for row in rows if row["mode"] == mode]
        if chosen:
            parts.append(f"### Forward and backward, {mode}\n\n" + times_table(chosen))
    return "\n\n".join(parts)


def with_tables(page: str, report: dict[str, Any]) -> str:
    """`page` with the report's tables between its markers."""
    head, rest = page.split(BEGIN, 1)
    tail = rest.split(END, 1)[1]
    return f"{head}{BEGIN}\n\n{render(report)}\n\n{END}{tail}"


def parse_compiled_row(text: str) -> tuple[int, int, int]:
    """`WIDTHxDEPTHxBATCH`."""
    width, depth, batch = map(int, text.split("x"))
    return width, depth, batch


def parse_arguments(command: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--depths", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64, 256, 4096])
    parser.add_argument("--hidden-factor", type=int, default=4, help="the blocks' hidden width over their width")
    parser.add_argument("--eager", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument(
        "--compiled-rows",
        type=parse_compiled_row,
        nargs="+",
        metavar="WIDTHxDEPTHxBATCH",
        default=[(64, 2, 256), (128, 2, 256), (256, 2, 256), (512, 2, 256), (256, 8, 256)],
        help="the shapes that are measured compiled as well",
    )
    parser.add_argument("--repeats", type=int, help="samples each; as many as fill --seconds if not given")
    parser.add_argument("--seconds", type=float, default=3.0, help="about how long each row is sampled")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="cpu",
        help="cpu: the process's own time, which other work on the machine does not enter; wall: elapsed time",
    )
    parser.add_argument("--out", type=Path, default=HERE / "block_cost.json")
    parser.add_argument("--table", action="store_true", help="print the tables of --out and measure nothing")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args(command)
    if arguments.repeats is not None and arguments.repeats < 2:
        parser.error("--repeats must be at least 2")
    return arguments


def chosen_rows(arguments: argparse.Namespace) -> list[tuple[str, Shape]]:
    """Mode and shape of every row, in the order of the tables."""
    factor, rows = arguments.hidden_factor, []
    if arguments.eager:
        rows += [
            ("eager", Shape(width, depth, batch, factor * width))
            for width in arguments.widths
            for depth in arguments.depths
            for batch in arguments.batches
        ]
    if arguments.compile:
        rows += [
            ("compiled", Shape(width, depth, batch, factor * width)) for width, depth, batch in arguments.compiled_rows
        ]
    return rows


def measure_all(arguments: argparse.Namespace, command: Sequence[str]) -> dict[str, Any]:
    """Measure every chosen row and print a line for each."""
    torch.set_num_threads(arguments.threads)
    rows = []
    for mode, shape in chosen_rows(arguments):
        row = asdict(measure(mode, shape, arguments.seconds, arguments.repeats, CLOCKS[arguments.clock]))
        rows.append(row)
        print(f"{mode:8} | {' | '.join(row_cells(row))} | {row['repeats']} x {row['inner']}", flush=True)
    conditions = provenance([".venv/bin/python", "benchmarks/block_cost.py", *command])
    return {**conditions, "clock": arguments.clock, "in_features": IN_FEATURES, "rows": rows}


def main(command: Sequence[str] | None = None) -> None:
    """Measure, or read earlier measurements; print the tables, and write them to the README if asked to."""
    command = list(sys.argv[1:] if command is None else command)
    arguments = parse_arguments(command)
    if arguments.table:
        report = json.loads(arguments.out.read_text())
    else:
        report = measure_all(arguments, command)
        arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    print(render(report))
    if arguments.readme:
        README.write_text(with_tables(README.read_text(), report))


if __name__ == "__main__":
    main()

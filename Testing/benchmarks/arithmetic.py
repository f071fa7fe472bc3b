"""The arithmetic of sampling: FLOPs, bytes, what the machine can do, what the denoisers reach, and the largest term.

    python Testing/benchmarks/arithmetic.py [--model MODEL] [--slices 64] [--device cpu]

The machine's rates are measured first: a product of two square matrices (GEMM, float32) and a copy in memory. Then a
whole volume is generated with clocks around the two denoisers, as they are called there (batches, guidance and all).
At last one batch of each stage, as it came in the volume, runs under torch.profiler: its time by kind of operation
(the *terms*) beside FLOPs, bytes and the least time that the FLOPs need at the GEMM rate (*floor*).

Bytes: each operation reads its inputs and writes its outputs once; what stays in a cache costs less than that.
The goal: in sampling the denoisers reach half of the machine's own GEMM rate on a CPU.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from bench_tools import Goal, count_flop, get_model, machine, table, tell_goals
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from CTDiffusionLogic.denoiser.network import SlabDenoiser
from CTDiffusionLogic.generation import GenerationModel, GenerationRequest, generate
from CTDiffusionLogic.models import find_model
from CTDiffusionLogic.training.options import WHOLE_PRESETS

#: Kinds of operations by parts of their names; the first that fits counts.
TERMS: dict[str, tuple[str, ...]] = {
    "convolution": ("conv",),
    "normalisation": ("norm",),
    "attention and matrix products": ("attention", "mm", "linear", "matmul", "einsum"),
    "activation": ("silu", "sigmoid", "gelu", "softmax"),
    "joins, copies, changes of layout": ("cat", "copy", "clone", "contiguous", "_to", "shuffle", "stack", "fill"),
    "resampling": ("upsample", "interpolate", "pool"),
}
OTHER = "sums, scalings and the rest"
GOAL = 0.5
DTYPES = {"cpu": (torch.float32,), "cuda": (torch.float32, torch.bfloat16)}


@dataclass
class StageClock:
    """What one denoiser did while a volume was made."""

    seconds: float = 0.0
    passes: int = 0
    slabs: int = 0
    largest: tuple[Any, ...] = ()
    _began: float = field(default=0.0, repr=False)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file (default: the bundled one)")
    parser.add_argument("--preset", choices=sorted(WHOLE_PRESETS), help="random weights of this architecture instead")
    parser.add_argument("--slices", type=int, default=64)
    parser.add_argument("--spacing-mm", type=float, default=3.0)
    parser.add_argument("--steps", type=int, help="of anatomy (default: the model's)")
    parser.add_argument("--detail-steps", type=int, help="(default: the model's)")
    parser.add_argument("--gemm-size", type=int, default=2048, help="rows of the matrices")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--facts", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(words)
    path = None if args.preset else find_model(args.model)
    model = get_model(path, args.preset or "standard", args.device)
    print(f"{machine(args.device)}\n\nmodel: {path.name if path else f'random weights, preset {args.preset}'}")
    gemm = measure_gemm(args.gemm_size, model.device)
    copy = measure_copy(args.gemm_size, model.device)
    for dtype, rate in gemm.items():
        print(f"GEMM {args.gemm_size} x {args.gemm_size}, {dtype}: {rate / 1e9:.0f} GFLOP/s", end="; ")
    print(f"copy in memory: {copy / 1e9:.1f} GB/s (read and written)\n")
    request = GenerationRequest(
        slices=args.slices,
        spacing_mm=args.spacing_mm,
        steps=args.steps,
        detail_steps=args.detail_steps,
    )
    generate(model, GenerationRequest(slices=1, steps=1, detail_steps=1))  # warm up
    began = time.perf_counter()
    with clocks(model) as stages:
        generate(model, request)
    seconds = time.perf_counter() - began
    goals = tell_sampling(model, stages, seconds, args.slices, max(gemm.values()))
    for name, clock in stages.items():
        print()
        goals.append(tell_terms(name, getattr(model, name), clock.largest, gemm["float32"], copy))
    tell_goals(goals, args.facts)


def measure_gemm(size: int, device: torch.device, *, rounds: int = 6) -> dict[str, float]:
    """Best rate of a product of two ``size`` x ``size`` matrices, FLOP/s, by type of number."""
    rates = {}
    for dtype in DTYPES.get(device.type, DTYPES["cpu"]):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = min(_timed(lambda a=a, b=b: a @ b, device) for _ in range(rounds))
        rates[str(dtype).removeprefix("torch.")] = 2 * size**3 / best
    return rates


def measure_copy(size: int, device: torch.device, *, rounds: int = 6) -> float:
    """Best rate of a copy of a large tensor, bytes read and written per second."""
    source = torch.ones(16 * size * size, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(_timed(lambda: target.copy_(source), device) for _ in range(rounds))


def _timed(function: Callable[[], object], device: torch.device) -> float:
    _wait(device)
    began = time.perf_counter()
    function()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def clocks(model: GenerationModel) -> Iterator[dict[str, StageClock]]:
    """Clocks around both denoisers, by stage."""
    stages = {"anatomy": StageClock(), "detail": StageClock()}
    handles = []
    for name, clock in stages.items():

        def before(_module: object, inputs: tuple[Any, ...], clock: StageClock = clock) -> None:
            if not clock.largest or len(inputs[0]) > len(clock.largest[0]):
                clock.largest = inputs
            _wait(model.device)
            clock._began = time.perf_counter()

        def after(_module: object, inputs: tuple[Any, ...], _out: object, clock: StageClock = clock) -> None:
            _wait(model.device)
            clock.seconds += time.perf_counter() - clock._began
            clock.passes += 1
            clock.slabs += len(inputs[0])

        denoiser = getattr(model, name)
        handles += [denoiser.register_forward_pre_hook(before), denoiser.register_forward_hook(after)]
    try:
        yield stages
    finally:
        for handle in handles:
            handle.remove()


def tell_sampling(
    model: GenerationModel, stages: dict[str, StageClock], seconds: float, slices: int, gemm: float
) -> list[Goal]:
    """Print what the denoisers reach while a volume is made; returns the goals."""
    sizes = {"anatomy": model.card["plan"]["anatomy_size"], "detail": model.card["plan"]["image_size"]}
    rows, flops, spent = [], 0.0, 0.0
    goals = []
    for name, clock in stages.items():
        flop = count_flop(getattr(model, name), sizes[name])
        rate = clock.slabs * flop / clock.seconds
        flops, spent = flops + clock.slabs * flop, spent + clock.seconds
        rows.append(_sampling_row(name, clock.passes, clock.slabs, clock.slabs * flop, clock.seconds, seconds, gemm))
        goals.append(Goal(f"{name} in sampling / GEMM", f"{rate / gemm:.0%}", "at least 50 %", rate / gemm >= GOAL))
    passes, slabs = (sum(getattr(c, key) for c in stages.values()) for key in ("passes", "slabs"))
    rows.append(_sampling_row("both", passes, slabs, flops, spent, seconds, gemm))
    share = flops / spent / gemm
    print(f"A volume of {slices} slices: {seconds:.1f} s, of which {spent / seconds:.0%} in the denoisers.\n")
    columns = (
        "stage",
        "calls",
        "slab passes",
        "GFLOP a pass",
        "TFLOP",
        "floor, s",
        "s",
        "of all",
        "GFLOP/s",
        "/ GEMM",
    )
    print(table(columns, rows))
    goals.append(Goal("both denoisers in sampling / GEMM", f"{share:.0%}", "at least 50 %", share >= GOAL))
    return goals


def _sampling_row(
    name: str, calls: int, slabs: int, flop: float, seconds: float, whole: float, gemm: float
) -> tuple[object, ...]:
    rate = flop / seconds
    return (
        name,
        calls,
        slabs,
        f"{flop / slabs / 1e9:.2f}",
        f"{flop / 1e12:.2f}",
        f"{flop / gemm:.1f}",
        f"{seconds:.1f}",
        f"{seconds / whole:.0%}",
        f"{rate / 1e9:.0f}",
        f"{rate / gemm:.0%}",
    )


def tell_terms(
    name: str, denoiser: SlabDenoiser, inputs: tuple[Any, ...], gemm: float, copy: float, *, rounds: int = 3
) -> Goal:
    """Print one stage's time by kind of operation; returns the largest."""
    flop, traffic, times = measure_terms(denoiser, inputs, rounds=rounds)
    whole = sum(times.values())
    rows = []
    for term in sorted(times, key=lambda t: -times[t]):
        rate = flop[term] / times[term]
        rows.append(
            (
                term,
                f"{1e3 * times[term]:.2f}",
                f"{times[term] / whole:.0%}",
                f"{flop[term] / 1e9:.2f}",
                f"{traffic[term] / 1e6:.0f}",
                f"{1e3 * flop[term] / gemm:.2f}",
                f"{1e3 * traffic[term] / copy:.2f}",
                f"{rate / 1e9:.0f}" if flop[term] else "",
            )
        )
    weights = sum(p.nbytes for p in denoiser.parameters()) / 1e6
    shape = " x ".join(map(str, inputs[0].shape))
    print(f"{name}, one call of {shape}: {1e3 * whole:.1f} ms; weights {weights:.1f} MB\n")
    columns = ("term", "ms", "share", "GFLOP", "MB moved", "floor, ms", "bytes / copy rate, ms", "GFLOP/s")
    print(table(columns, rows))
    largest = max(times, key=lambda t: times[t])
    return Goal(f"largest term, {name}", f"{largest}, {times[largest] / whole:.0%}")


@torch.inference_mode()
def measure_terms(
    denoiser: SlabDenoiser, inputs: tuple[Any, ...], *, rounds: int
) -> tuple[dict[str, float], dict[str, float], dict[str, float]]:
    """FLOPs, bytes and seconds of one call by term."""
    flop, times = defaultdict(float), defaultdict(float)
    with FlopCounterMode(display=False) as counter:
        denoiser(*inputs)
    for operation, count in counter.get_flop_counts().get("Global", {}).items():
        flop[term_of(str(operation))] += count
    with Traffic() as traffic:
        denoiser(*inputs)
    on_gpu = inputs[0].is_cuda
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    denoiser(*inputs)
    with profile(activities=activities) as profiler:
        for _ in range(rounds):
            denoiser(*inputs)
    for row in profiler.key_averages():
        spent = row.self_device_time_total if on_gpu else row.self_cpu_time_total
        times[term_of(row.key)] += spent / 1e6 / rounds
    return flop, traffic.bytes, times


def term_of(operation: str) -> str:
    """Kind of an operation."""
    name = operation.lower()
    return next((term for term, parts in TERMS.items() if any(part in name for part in parts)), OTHER)


class Traffic(TorchDispatchMode):
    """Counts the bytes that operations read and write, by term; views move none."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[str, float] = defaultdict(float)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        inputs = [t for t in tree_leaves((args, kwargs or {})) if isinstance(t, Tensor)]
        outputs = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        pointers = {t.untyped_storage().data_ptr() for t in inputs}
        is_view = all(t.untyped_storage().data_ptr() in pointers for t in outputs) and not func._schema.is_mutable
        if not is_view:
            self.bytes[term_of(str(func))] += sum(t.numel() * t.element_size() for t in (*inputs, *outputs))
        return result


if __name__ == "__main__":
    main()

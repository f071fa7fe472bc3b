"""How wrong a model's estimate of the clean slab is, at each noise level.

    python Testing/benchmarks/denoiser_error.py MODEL --run RUN [--batches 3] [--without-lowest-level]

RUN is the folder of a training whose plan and cache serve as data (of the model's own training: "train" are slabs
it saw). Printed: the root mean square error on slabs of which nothing is known, in the stage's own units, for sigma
= t / (1 - t). A row that stops falling with sigma shows the finest structure the network can draw; where it lies above
sigma, the noisy slab itself would have been the better estimate. With ``--without-lowest-level`` what the U-Net's
lowest level of resolution gives is set to zero: a level whose rows stay the same has learnt nothing. Detail refines
averaged scans here; one that has learnt to refine estimates of anatomy is wronger on these than on its own.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from CTDiffusionLogic.bundle import load_denoisers, load_model
from CTDiffusionLogic.corpus.plan import CorpusPlan
from CTDiffusionLogic.corpus.stream import SlabStream
from CTDiffusionLogic.denoiser.network import SlabDenoiser

SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)
BATCH = 12


@torch.inference_mode()
def errors(network: SlabDenoiser, stream: SlabStream, *, batches: int) -> list[float]:
    """Root mean square error at each of SIGMAS, over the slabs of ``batches`` batches that know no slice."""
    rows = []
    for sigma in SIGMAS:
        t = sigma / (1 + sigma)
        squares, slabs = 0.0, 0
        for number in range(1000, 1000 + batches):
            x0, conditions = stream.batch(number)
            noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(number))
            estimate = network((1 - t) * x0 + t * noise, torch.full((len(x0),), t), conditions)
            free = conditions.mask.sum(dim=1) == 0
            squares += float(((estimate - x0) ** 2).mean(dim=(1, 2, 3))[free].sum())
            slabs += int(free.sum())
        rows.append((squares / slabs) ** 0.5)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--batches", type=int, default=3)
    parser.add_argument("--without-lowest-level", action="store_true")
    args = parser.parse_args()
    plan, cache = CorpusPlan.load(args.run / "plan.json"), args.run / "cache"
    networks = load_denoisers(load_model(args.model), "cpu")
    print(f"{'sigma':<18}" + "".join(f"{sigma:>8}" for sigma in SIGMAS))
    for network in networks:
        if args.without_lowest_level:
            network.unet.up_blocks[0].register_forward_hook(lambda _block, _given, made: torch.zeros_like(made))
        for split in ("train", "held-out"):
            stage = network.config.stage
            stream = SlabStream(
                plan, cache, stage=stage, batch=BATCH, slices=network.config.slices, seed=1, split=split
            )  # type: ignore[arg-type]
            row = errors(network, stream, batches=args.batches)
            print(f"{stage + ', ' + split:<18}" + "".join(f"{value:>8.4f}" for value in row), flush=True)


if __name__ == "__main__":
    main()

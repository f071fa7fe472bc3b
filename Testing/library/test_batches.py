"""What a step learns from is made ahead, in order, by as many threads as the machine has to spare."""

import itertools
import threading
import time

import pytest
import torch

from CTDiffusionLogic.corpus.stream import made_ahead
from CTDiffusionLogic.denoiser.conditions import SlabConditions
from CTDiffusionLogic.training import batches
from CTDiffusionLogic.training.batches import MOST_THREADS, ReadyBatch, loader_threads, own_cores

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("cores", "stages", "threads"), [(1, 2, 1), (2, 2, 1), (8, 2, 3), (16, 2, 4), (3, 1, 2)])
def test_a_gpu_gets_the_cores_that_are_left(monkeypatch, cores, stages, threads):
    monkeypatch.setattr(batches, "own_cores", lambda: cores)
    assert loader_threads(None, GPU, stages=stages) == threads <= MOST_THREADS
    assert loader_threads(None, CPU, stages=stages) == 0, "no thread beside those that train"
    assert loader_threads(5, GPU, stages=stages) == loader_threads(5, CPU, stages=stages) == 5
    assert loader_threads(0, GPU, stages=stages) == 0


def test_processes_of_one_machine_share_its_cores(monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    alone = own_cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert own_cores() == max(1, alone // 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(10 * alone))
    assert own_cores() == 1


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_come_in_order_whoever_is_first(threads):
    begun = []

    def make(number: int) -> int:
        time.sleep(0.01 if number % 3 == 0 else 0.0)
        return number

    made = made_ahead(make, iter(range(20)), threads=threads, at_start=lambda: begun.append(threading.get_ident()))
    assert list(made) == list(range(20))
    assert len(begun) <= threads and bool(begun) == bool(threads)


def test_no_more_is_made_than_may_wait():
    asked = []
    made = made_ahead(lambda number: asked.append(number), itertools.count(), threads=2, ahead=5)
    next(made)
    made.close()
    assert len(asked) <= 6


def test_a_failure_in_a_thread_reaches_the_training():
    def make(number: int) -> int:
        raise OSError(f"batch {number} cannot be read")

    with pytest.raises(OSError, match="batch 0"):
        next(made_ahead(make, itertools.count(), threads=2))


def test_a_batch_goes_to_the_device_as_it_is():
    x0 = torch.rand(2, 8, 4, 4)
    told = SlabConditions(
        known=x0, mask=torch.zeros(2, 8), offsets_mm=torch.zeros(2, 8), body_mm=torch.zeros(2), pixel_mm=torch.ones(2),
        label=torch.tensor([1, 0]),
    )  # fmt: skip
    there = ReadyBatch(x0, 2 * x0, torch.tensor([0.1, 0.9]), told).to(torch.device("meta"))
    assert {t.device.type for t in (there.x0, there.noise, there.t, there.conditions.label)} == {"meta"}
    assert there.noise.shape == x0.shape and there.conditions.coarse is None

"""Batches sized from memory, and errors that mean there is none left."""

from __future__ import annotations

import pytest
import torch

from CTDiffusionLogic.denoiser.network import DenoiserConfig
from CTDiffusionLogic.memory import LARGEST_BATCH, PER_THREAD, batch_size, is_out_of_memory, slab_bytes

DETAIL = DenoiserConfig(stage="detail", channels=(48, 72), layers=1, attention=False)
ANATOMY = DenoiserConfig(stage="anatomy")


def test_batch_grows_with_memory_up_to_what_helps():
    need = slab_bytes(DETAIL, 256)
    assert 50e6 < need < 300e6
    assert batch_size(DETAIL, 256, "cuda", free=0) == 1
    assert batch_size(DETAIL, 256, "cuda", free=2 * 3 * need) == 3
    assert batch_size(DETAIL, 256, "cuda", free=2**40) == LARGEST_BATCH["detail"]
    assert batch_size(ANATOMY, 64, "cuda", free=2**40) == LARGEST_BATCH["anatomy"]
    assert slab_bytes(DETAIL, 512) == 4 * need


def test_cpu_batches_follow_its_threads():
    threads = torch.get_num_threads()
    assert batch_size(DETAIL, 256, "cpu", free=2**40) == min(PER_THREAD["detail"] * threads, LARGEST_BATCH["detail"])
    assert batch_size(ANATOMY, 64, "cpu", free=2**40) == min(PER_THREAD["anatomy"] * threads, LARGEST_BATCH["anatomy"])
    assert batch_size(DETAIL, 512, "cpu", free=2**40) == max(1, PER_THREAD["detail"] * threads // 4)  # 4 times larger
    assert batch_size(DETAIL, 256, "cpu") >= 1  # this machine's own memory


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_recognised(error, wanted):
    assert is_out_of_memory(error) is wanted


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)

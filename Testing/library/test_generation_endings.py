"""Cancelled, out of memory, broken: how a generation ends before its time, or goes on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_generation import Recorder, Wrapped, replaced, tiny_model

from CTDiffusionLogic.errors import Cancelled, CTDiffusionError, ResourceError
from CTDiffusionLogic.generation import GenerationRequest, generate


@pytest.fixture
def model():
    return tiny_model()


@pytest.mark.parametrize("after", [0, 1, 7, 12])
def test_cancel_between_passes(model, after):
    seen = Recorder(cancel_after=after)
    passes = []
    watched = replaced(
        model,
        anatomy=Wrapped(model.anatomy, lambda *_: passes.append(0)),
        detail=Wrapped(model.detail, lambda *_: passes.append(0)),
    )
    with pytest.raises(Cancelled):
        generate(watched, GenerationRequest(slices=64), **seen.callbacks())
    assert len(passes) == after
    if not after:
        assert seen.blocks == []


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
    ids=lambda e: type(e).__name__,
)
def test_batches_are_halved_until_they_fit(model, monkeypatch, error):
    monkeypatch.setattr("CTDiffusionLogic.stage_run.batch_size", lambda *_: 8)
    monkeypatch.setattr("CTDiffusionLogic.slab_plan.BLOCK_WINDOWS", 16)
    request = GenerationRequest(slices=128, seed=2)
    whole = generate(model, request).hu
    tried = []

    def fail(x, t, c):
        tried.append((len(x), float(t[0])))
        if len(x) > 2 and t[0] < 0.5:  # after some passes: what they did is lost
            raise error

    seen = Recorder()
    volume = generate(replaced(model, detail=Wrapped(model.detail, fail)), request, **seen.callbacks())
    assert np.abs(volume.hu.astype(int) - whole).max() <= 1
    assert {8, 4, 2} <= {n for n, _ in tried} <= {8, 4, 2, 1}
    assert sum(n > 2 for n, _ in tried) == 4  # once halved, it stays so
    assert [w for w in seen.warnings if "8 slabs" in w and "going on with 4" in w]
    assert [w for w in seen.warnings if "4 slabs" in w and "going on with 2" in w]
    done = [event[0] for event in seen.progress]
    assert done == sorted(done)
    assert done[-1] == seen.progress[-1][1]


def test_no_memory_for_a_single_slab(model):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ResourceError, match="single slab of 32 x 32"):
        generate(replaced(model, detail=Wrapped(model.detail, fail)), GenerationRequest(slices=8))


def test_other_errors_are_not_taken_for_lack_of_memory(model):
    def fail(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        generate(replaced(model, detail=Wrapped(model.detail, fail)), GenerationRequest(slices=8))


def test_a_broken_model_is_named(model):
    class Broken(Wrapped):
        def forward(self, x_t, t, conditions):
            return x_t * torch.nan

    with pytest.raises(CTDiffusionError, match="anatomy stage gave values that are not numbers"):
        generate(replaced(model, anatomy=Broken(model.anatomy, None)), GenerationRequest(slices=8))

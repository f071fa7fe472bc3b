"""Choosing a device: what is asked for is taken or refused, and the computation that decides is right."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate

from CTDiffusionLogic import device as device_module
from CTDiffusionLogic.device import (
    TINY_RESULT,
    TINY_TOLERANCE,
    check_device_name,
    choose_device,
    describe_device,
    format_bytes,
    memory,
    set_threads,
    tiny_computation,
)
from CTDiffusionLogic.errors import ResourceError, UsageError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


def test_the_known_result_is_right():
    pixels = np.sin(np.arange(64.0).reshape(8, 8))
    weights = np.cos(np.arange(9.0).reshape(3, 3))
    exact = (correlate(pixels, weights, mode="constant") ** 2).sum()
    assert exact == pytest.approx(TINY_RESULT, abs=1e-3)
    assert tiny_computation("cpu") == pytest.approx(exact, rel=1e-4)


def test_cpu():
    assert choose_device("cpu") == torch.device("cpu")
    assert "CPU" in describe_device("cpu")
    count = torch.get_num_threads()
    assert f" {count} thread{'' if count == 1 else 's'}," in describe_device(torch.device("cpu"))


@without_cuda
def test_cuda_is_refused_where_there_is_none():
    for name in ("cuda", "cuda:3"):
        with pytest.raises(ResourceError, match="CUDA") as caught:
            choose_device(name)
        assert "--device cpu" in caught.value.remedy


@pytest.mark.parametrize("name", ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "CPU", "cpu:0"])
def test_unknown_names(name):
    with pytest.raises(UsageError, match="Unknown device"):
        check_device_name(name)
    with pytest.raises(UsageError):
        choose_device(name)


def test_auto_goes_on_with_the_cpu_when_the_gpu_does_not_compute(monkeypatch, caplog):
    monkeypatch.setattr(device_module, "_present", lambda kind: kind == "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(device_module, "tiny_computation", lambda _: 1.0)
    assert choose_device("auto") == torch.device("cpu")
    assert "computes wrongly: 1.0000" in caplog.text
    assert "Going on with the CPU" in caplog.text
    with pytest.raises(ResourceError, match="computes wrongly"):
        choose_device("cuda")


def test_a_device_that_gives_nan_is_refused(monkeypatch):
    monkeypatch.setattr(device_module, "tiny_computation", lambda _: float("nan"))
    with pytest.raises(ResourceError, match="computes wrongly"):
        choose_device("cpu")


def test_memory_is_plausible():
    total, free = memory("cpu")
    assert 0 < free <= total
    assert abs(TINY_TOLERANCE) < 0.01 * TINY_RESULT


def test_threads():
    before = torch.get_num_threads()
    try:
        set_threads(1)
        assert torch.get_num_threads() == 1
        set_threads(None)
        assert torch.get_num_threads() == 1
        with pytest.raises(UsageError, match="at least 1, got 0"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_format_bytes():
    assert [format_bytes(n) for n in (0, 1536, 5 * 2**20, 3 * 2**40)] == ["0 bytes", "1.5 kB", "5.0 MB", "3072.0 GB"]

"""The U-Net without the rest of diffusers, and the rest of diffusers afterwards."""

import gc
import importlib
import subprocess
import sys
import types

import pytest

from CTDiffusionLogic import narrow_import
from CTDiffusionLogic.narrow_import import absent, collector_rests, import_unet, not_run

IN_A_FRESH_PROCESS = """
import sys
import torch
from CTDiffusionLogic.narrow_import import import_unet

Narrow = import_unet()
heavy = {"torch._dynamo", "diffusers.models.transformers", "diffusers.models.unets", "diffusers.pipelines"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert not [name for name, module in sys.modules.items() if module is None]
shape = {"block_out_channels": (8, 8), "norm_num_groups": 4, "attention_head_dim": 4, "layers_per_block": 1}
blocks = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
assert Narrow(**shape, **blocks)(torch.zeros(1, 3, 8, 8), 1.0).sample.shape == (1, 3, 8, 8)
assert "torch._dynamo" not in sys.modules

import torch._dynamo
import diffusers
from diffusers.models import transformers
from diffusers.models.unets import UNet2DModel
from diffusers.training_utils import EMAModel

assert UNet2DModel is diffusers.UNet2DModel is Narrow
assert transformers.Transformer2DModel and torch._dynamo.optimize
assert import_unet() is Narrow
"""


def test_the_unet_comes_alone_and_the_rest_can_follow():
    done = subprocess.run([sys.executable, "-c", IN_A_FRESH_PROCESS], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_where_diffusers_is_built_otherwise_it_is_imported_as_a_whole(monkeypatch):
    whole = types.ModuleType("diffusers")
    whole.UNet2DModel = object()
    monkeypatch.setitem(sys.modules, "diffusers", whole)
    monkeypatch.delitem(sys.modules, "diffusers.models.unets.unet_2d", raising=False)
    monkeypatch.setattr(narrow_import, "_PACKAGES", ("diffusers_of_tomorrow.unets",))
    assert import_unet() is whole.UNet2DModel


def test_packages_that_are_not_run_run_later(tmp_path, monkeypatch):
    inner = tmp_path / "outer_of_test" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").write_text("")
    (inner / "__init__.py").write_text("from . import broken, leaf\nran = True\n")
    (inner / "leaf.py").write_text("value = object()\n")
    (inner / "broken.py").write_text("import torch_of_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    with not_run(["outer_of_test.inner"]):
        from outer_of_test.inner.leaf import value
    assert "outer_of_test.inner" not in sys.modules
    with pytest.raises(ModuleNotFoundError, match="torch_of_test"):
        importlib.import_module("outer_of_test.inner")
    (inner / "broken.py").write_text("")
    from outer_of_test.inner import leaf, ran

    assert ran and leaf.value is value


def test_what_is_absent_is_so_for_a_while():
    import json

    with absent(["json", "wave"]):
        import json as again

        assert again is json, "what was imported before stays"
        with pytest.raises(ImportError):
            import wave
    import wave

    assert wave.open


def test_the_collector_rests_while_torch_is_imported_and_then_leaves_it_alone(monkeypatch):
    monkeypatch.setattr(sys, "modules", {name: m for name, m in sys.modules.items() if name != "torch"})
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(gc.isenabled()))  # for good, in this process
    frozen = []
    with pytest.raises(ImportError), collector_rests():
        assert not gc.isenabled()
        raise ImportError
    assert gc.isenabled() and frozen == [False]
    sys.modules["torch"] = types.ModuleType("torch")
    with collector_rests():
        assert gc.isenabled()
    assert frozen == [False]

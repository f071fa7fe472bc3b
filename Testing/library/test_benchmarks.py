"""The benchmarks run and print what the README quotes; in this process where they can, for each costs its imports."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTING = Path(__file__).resolve().parents[1]
BENCHMARKS = TESTING / "benchmarks"


@pytest.fixture
def load(monkeypatch):
    """Imports a benchmark by name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A folder with plan and cache of two phantoms of 64 x 64 pixels, as a training leaves them."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        importlib.import_module("bench_tools").corpus_of(None, folder, image_size=64)
    return folder


@pytest.fixture(scope="module")
def noise_model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TESTING))
        write = importlib.import_module("random_model").write_random_model
    return write(tmp_path_factory.mktemp("model") / "noise.safetensors", image_size=128)


def rows_of(text):
    """First cells of all Markdown tables' rows."""
    return [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]


def test_generation_cost_prints_both_routes_and_the_growth():
    options = ["--preset", "tiny", "--slices", "5", "--compare", "5", "--seed-passes", "1"]
    command = [sys.executable, str(BENCHMARKS / "generation_cost.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    ours = re.search(r"ours, \w+ (\d+) \+ (\d+) +(\d+) +[\d.]+ +[\d.]+ +[\d.]+ [MG]B", done.stdout)
    seed = re.search(r"the seed, slice by slice +5000 +\d+ +[\d.]+ +[\d.]+ [MG]B", done.stdout)
    assert ours, done.stdout
    assert seed, done.stdout
    passes = int(ours[1]) + int(ours[2])  # one slab of each stage
    assert int(ours[3]) == passes
    assert re.search(rf"^ +5 +[\d.]+ +[\d.]+ +{passes} ", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"seed's route / ours, 5 slices of 256 x 256: FLOPs +\| +\d+ x", done.stdout), done.stdout


def test_arithmetic_counts_the_flops_of_both_stages_and_names_the_largest_term(load, noise_model, tmp_path, capsys):
    facts = tmp_path / "facts.json"
    words = ["--model", str(noise_model), "--slices", "2", "--gemm-size", "64", "--facts", str(facts)]
    load("arithmetic").main(words)
    printed = capsys.readouterr().out
    assert re.search(r"GEMM 64 x 64, float32: \d+ GFLOP/s; copy in memory: [\d.]+ GB/s", printed), printed
    anatomy = re.search(r"\| anatomy +\| +2 \| +2 \| +([\d.]+) ", printed)  # two steps: two calls, two slab passes
    assert anatomy, printed
    assert float(anatomy[1]) > 0, printed
    assert rows_of(printed).count("convolution") == 2, printed
    goals = {goal["what"]: goal for goal in json.loads(facts.read_text())}
    assert goals["largest term, detail"]["value"].endswith("%")
    assert goals["both denoisers in sampling / GEMM"]["goal"] == "at least 50 %"


def test_bytes_moved_are_those_of_inputs_and_outputs(load):
    arithmetic = load("arithmetic")
    first, second = torch.zeros(10, 20), torch.zeros(20, 30)
    with arithmetic.Traffic() as traffic:
        (first @ second).reshape(-1)
        torch.nn.functional.silu(first)
    products = traffic.bytes[arithmetic.term_of("aten.mm")]
    assert products == 4 * (200 + 600 + 300)  # the view moves nothing
    assert traffic.bytes["activation"] == 4 * 400


def test_sampling_cost_sets_passes_beside_the_frechet_distance(load, noise_model, run, capsys):
    words = ["--model", str(noise_model), "--run", str(run), "--volumes", "1", "--slices", "8"]
    load("sampling_cost").main([*words, "--anatomy", "1", "--detail", "1", "--reference", "3", "2"])
    printed = capsys.readouterr().out
    assert re.search(r"\| anatomy +\| +1 \+ 2 \| +1 \+ 2 \| +[\d.]+ \| +[\d.]+ \| +[\d.]+ ", printed), printed
    assert re.search(r"\| detail \(the model's\) +\| +2 \+ 2 ", printed), printed
    assert re.search(r"\| knee of anatomy +\| +[12] steps \| at most the model.s 2 ", printed), printed


def test_cold_start_times_the_first_slice_of_a_command(load, noise_model, capsys):
    words = ["--model", str(noise_model), "--sizes", "128", "--slices", "8"]
    load("cold_start").main(words)
    printed = capsys.readouterr().out
    found = re.search(r"\| 8 slices of 128 x 128 +\| +noise \| +([\d.]+) \| +([\d.]+) \|", printed)
    assert found, printed
    assert float(found[1]) <= float(found[2]) + 0.1
    assert rows_of(printed)[2] == "--help", printed


def test_training_throughput_sets_ours_beside_two_libraries(load, run, capsys, monkeypatch):
    throughput = load("training_throughput")

    def here(_script, words):
        throughput.main([*map(str, words)])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    monkeypatch.setattr(throughput, "run_again", here)
    told = []
    monkeypatch.setattr(throughput, "table", lambda columns, rows: told.extend(rows) or "")
    monkeypatch.setattr(throughput, "tell_goals", lambda goals, facts: told.extend(goals))
    words = ["--run", str(run), "--preset", "tiny", "--batch", "2", "--steps", "1", "--warm-up", "1", "--rounds", "1"]
    words += ["--workers", "0", "--stall-minutes", "0"]
    throughput.main([*words, "--stage", "anatomy"])
    rows, goals = told[:5], told[5:]
    assert tuple(row[0] for row in rows) == throughput.LOOPS
    assert rows[0][1:3] == rows[1][1:3] == rows[2][1:3]  # one network: weights and arithmetic
    assert all(float(row[3]) > 0 for row in rows)
    assert [goal.what for goal in goals if goal.goal] == ["waiting for data, anatomy"]
    told.clear()
    throughput.main([*words, "--stage", "detail", "--loops", "ours"])
    (plain, refining), goals = told[:2], told[2:]
    assert plain[0] == "ours" and refining[0] == throughput.ON_ESTIMATES
    assert plain[1:3] == refining[1:3] and float(refining[3]) > 0
    assert [goal.what for goal in goals] == ["waiting for data, detail"]


def test_every_choice_trains_and_changes_what_it_says(load, run):
    choices, training = load("choices"), load("training_choices")
    plan = training.CorpusPlan.load(run / "plan.json")
    plain = None
    for name, choice in choices.CHOICES.items():
        if choice.baseline or choice.trained:
            continue
        config = training.config_of(choice, plan, "small")
        own = {"mean": 0.4, "std": 1.7, "sigma_floor": 0.1, "sigma_data": config.sigma_data}
        loss = choices.RuledLoss(**{**own, **choice.loss})
        changed = training.replace(plan, **choice.plan)
        stream = training.SlabStream(changed, run / "cache", stage="anatomy", batch=4, slices=config.slices)
        with choices.data_as(choice):
            x0, conditions = stream.batch(0)
        if plain is None:
            plain = x0, conditions.known, conditions.mask, conditions.offsets_mm
        elif choice.data:
            now = x0, conditions.known, conditions.mask, conditions.offsets_mm
            assert not all(torch.equal(a, b) for a, b in zip(plain, now, strict=True)), name
        torch.manual_seed(0)
        t = torch.tensor([0.05, 0.3, 0.6, 0.95])
        network = training.SlabDenoiser(config)
        with torch.no_grad():
            value = loss(network, x0, torch.randn_like(x0), t, conditions)
        assert torch.isfinite(value).all(), name
        assert (value > 0).all(), name


def test_v_is_edm_with_unscaled_data(load):
    """What choices.py says of the two: EDM's target for data of unit variance is v, sign aside."""
    noise_module = importlib.import_module("CTDiffusionLogic.noise")
    t = torch.tensor([0.1, 0.5, 0.9])
    factors = noise_module.precondition(t, 1.0, "edm")
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 1, 4, 4, generator=generator) for _ in range(2))
    level = t[:, None, None, None]
    target = (x0 - factors.c_skip * ((1 - level) * x0 + level * noise)) / factors.c_out
    phi = torch.atan(level / (1 - level))
    torch.testing.assert_close(-target, phi.cos() * noise - phi.sin() * x0)


def test_training_choices_append_and_print_one_table(load, run, tmp_path, capsys, monkeypatch):
    choices = load("training_choices")
    monkeypatch.setattr(load("training_baselines"), "BATCH", {"MONAI": 2, "diffusers": 2})
    out = tmp_path / "choices.jsonl"
    words = ["--run", str(run), "--steps", "1", "--minutes", "5", "--out", str(out), "--volumes", "1"]
    words += ["--slices", "8", "--sample-steps", "1", "--baseline-steps", "2", "--error-batches", "1"]
    choices.main([*words, "--choices", "guidance 2", "MONAI 2D DDPM"])
    choices.main([*words, "--choices", "no EMA", "MONAI 2D DDPM", "diffusers unconditional"])
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    wanted = ["shipped", "guidance 2", "MONAI 2D DDPM", "no EMA", "diffusers unconditional"]
    assert [line["choice"] for line in lines] == wanted  # the second call made only what was missing
    assert all(line["done_steps"] == 1 and line["frechet"] > 0 for line in lines)
    assert lines[2]["nfe"] == 2
    capsys.readouterr()
    choices.main(["--table", str(out)])
    printed = capsys.readouterr().out
    assert rows_of(printed)[2:] == ["shipped", "no EMA", "guidance 2", "MONAI 2D DDPM", "diffusers unconditional"]
    assert re.search(r"\| guidance 2 +\| +guidance \| +1 \| +1 \| .* x \|", printed), printed


def test_denoiser_error_prints_a_row_for_each_stage_and_split(load, noise_model, run, capsys, monkeypatch):
    benchmark = load("denoiser_error")
    monkeypatch.setattr(benchmark, "SIGMAS", (0.1, 3.2))
    monkeypatch.setattr(sys, "argv", ["denoiser_error.py", str(noise_model), "--run", str(run), "--batches", "1"])
    benchmark.main()
    printed = capsys.readouterr().out.splitlines()
    assert [line[:18].strip() for line in printed[1:]] == [
        "anatomy, train",
        "anatomy, held-out",
        "detail, train",
        "detail, held-out",
    ]


def test_without_its_lowest_level_a_network_that_uses_it_errs_more(load, noise_model, run, capsys, monkeypatch):
    benchmark = load("denoiser_error")
    networks = benchmark.load_denoisers(benchmark.load_model(noise_model))
    for network in networks:  # random ones begin by giving nothing
        torch.nn.init.normal_(network.unet.conv_out.weight)
    monkeypatch.setattr(benchmark, "load_denoisers", lambda *_: networks)
    monkeypatch.setattr(benchmark, "SIGMAS", (3.2,))
    rows = []
    for words in ([], ["--without-lowest-level"]):
        call = ["denoiser_error.py", str(noise_model), "--run", str(run), "--batches", "1", *words]
        monkeypatch.setattr(sys, "argv", call)
        benchmark.main()
        rows.append(capsys.readouterr().out.splitlines()[1:])
    assert all(one != other for one, other in zip(*rows, strict=True)), rows


def test_sampler_on_model_prints_both_stages(load, noise_model, capsys, monkeypatch):
    benchmark = load("sampler_on_model")
    monkeypatch.setattr(benchmark, "REFERENCE", benchmark.power_times(3))
    monkeypatch.setattr(sys, "argv", ["sampler_on_model.py", str(noise_model), "--passes", "2"])
    benchmark.main()
    printed = capsys.readouterr().out
    assert len(re.findall(r"^multistep, order 2 +2 +[\d.]+", printed, re.MULTILINE)) == 2, printed


def test_sampler_table_prints_rows(load, capsys, monkeypatch):
    benchmark = load("sampler_table")
    first = list(benchmark.routes())[:1]
    monkeypatch.setattr(benchmark, "routes", lambda: first)
    benchmark.main()
    assert re.search(r"^diffusers FlowMatchHeun +its own +11 ", capsys.readouterr().out, re.MULTILINE)


def test_bench_runs_its_parts_and_writes_one_page(load, noise_model, tmp_path, capsys):
    bench = load("bench")
    bench.main(["--parts", "choices", "--out", str(tmp_path), "--model", str(noise_model)])
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert "No results yet." in page
    assert re.search(r"\| model file noise.safetensors +\| +[\d.]+ MB \| at most 16 MB \| +met \|", page), page
    assert "torch " in capsys.readouterr().out.splitlines()[0]


def test_bench_gives_each_part_what_it_takes(load, tmp_path):
    bench = load("bench")
    parser_words = bench.argparse.Namespace(run=Path("r"), quick=True, out=tmp_path)
    for name, part in bench.PARTS.items():
        words = bench.arguments(part, parser_words, Path("m"), [], tmp_path / "f.json")
        script = (BENCHMARKS / part.script).read_text(encoding="utf-8")
        for word in map(str, words):
            assert not word.startswith("--") or f'"{word}"' in script, (name, word)

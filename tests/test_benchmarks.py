"""The GPU benchmarks run end to end at tiny sizes; their figures mean nothing here."""

import json
import runpy
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tiny_models import base

from tiebreak.hardware import throughput
from tiebreak.model import classifier
from tiebreak.votes import synthetic
from tiebreak.votes.schema import LOCKBOX, SCHEMA, write_table

pytestmark = pytest.mark.slow

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
ARMS = ("gemma-score/reference", "gemma-score/int8", "llama-step/fp8")
Script = Callable[..., str]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script as a command would, and returns what it prints."""
    monkeypatch.syspath_prepend(BENCHMARKS)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(BENCHMARKS / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_arms_run_and_a_later_call_goes_on(script: Script, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    script("gpu.py", "--small", "--into", str(file), ARMS[0])
    first = file.read_text()
    table, line = script("gpu.py", "--small", "--into", str(file), *ARMS).strip().split("\n\n")
    assert file.read_text().startswith(first), "what is there is not run again"
    found: dict[str, Any] = json.loads(line)
    assert [f"{row['work']}/{row['arm']}" for row in found["arms"]] == list(ARMS)
    for row in found["arms"]:
        assert row["tokens_per_s"] > 0
        assert row["logits_off"] < 0.3
        assert f"| {row['work']} | {row['arm']} " in table
    assert found["arms"][0]["ratio"] == 1.0
    assert found["card"] == "CPU"
    assert set(found) >= {"versions", "commit", "bf16_peak_tflops"}


def test_sixteen_bits_are_beside_fp32(script: Script) -> None:
    *_, line = script("sixteen_bits.py", str(base("llama"))).strip().split("\n\n")
    exact, noisy, plain = json.loads(line)["rows"]
    assert exact["gradient_off"] == 0 < noisy["gradient_off"] < plain["gradient_off"] < 0.5
    assert exact["logits_off"] == 0 < noisy["logits_off"] < plain["logits_off"] < 0.5


def test_arms_are_listed(script: Script) -> None:
    listed = script("gpu.py", "--list")
    assert all(arm in listed for arm in ARMS)


def test_what_was_measured_refreshes_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    refreshed = runpy.run_path(str(BENCHMARKS / "gpu.py"))["refreshed"]
    about = {"card": "NVIDIA H100 80GB HBM3", "bf16_peak_tflops": 780.4, "date": "2027-01-02"}
    rows = [
        {"work": "gemma-step", "arm": "bf16", "tflops": 500.2, "kernels": True},
        {"work": "gemma-step", "arm": "fp8", "tflops": 100.0, "kernels": False},
        {"work": "llama-step", "arm": "fp8", "error": "OutOfMemoryError"},
    ]
    before = throughput.table()
    found = refreshed(before, rows, about)
    assert found["peaks"]["H100"]["tflops"] == 780
    changed = [entry for entry in found["rates"] if entry not in before["rates"]]
    assert [(e["work"], e["held"], e["tflops"]) for e in changed] == [("train", "bf16", 500)]
    assert "gpu-h100-202701.md" in changed[0]["source"]
    assert len(found["rates"]) == len(before["rates"]), "the older entry is gone"


def test_attention_is_timed_beside_torchs_own(script: Script) -> None:
    pytest.importorskip(
        "tiebreak.model.fast.flash_attention", exc_type=ImportError, reason="Triton is not installed"
    )
    *lines, last = script("attention.py", "--small").strip().splitlines()
    found = json.loads(last)["rows"]
    assert {row["way"] for row in found} >= {"kernel", "sdpa"}
    assert all(row["forward_ms"] > 0 and row["both_ms"] > 0 for row in found)
    assert len(lines) == len(found)


def test_gptq_is_compared_with_rounding(script: Script) -> None:
    pytest.importorskip("llmcompressor")
    *_, table, line = script("quantize.py", "--small").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert len(table.splitlines()[-len(rows) :]) == len(rows)
    for row in rows:
        assert row["change"]["low"] <= row["change"]["value"] <= row["change"]["high"]
        assert (row["logits_rms"] > 0) == (row["bits"] != 16)
        assert ("change_from_rtn" in row) == (row["method"] == "gptq")
    rounded = {(row["family"], row["bits"]): row["logits_rms"] for row in rows if row["method"] == "rtn"}
    assert all(0 < rounded[family, 8] < rounded[family, 4] for family in ("llama", "gemma2"))


def test_the_page_of_quantising_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    made = runpy.run_path(str(BENCHMARKS / "quantize.py"))
    page = made["page"]("| model |", {"seeds": 3, **asdict(made["Scale"]())})
    assert "--seeds 3 --write" in page
    assert "| model |" in page
    assert "{" not in page


def test_coverage_is_counted_for_every_arm(script: Script) -> None:
    *tables, line = script("coverage.py", "--small").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"coverage", "size", "power"}
    for row in rows:
        assert row["per_cent"] in range(0, 101, 10) or row["arm"] == "power"
        assert f"| {row['figure']} | {row['per_cent']:.1f} |" in "\n".join(tables)
    covered = [row["per_cent"] for row in rows if row["arm"] != "power"]
    assert sum(covered) / len(covered) > 80


def test_few_votes_lose_less_with_the_prior(script: Script) -> None:
    *tables, line = script("few_votes.py", "--small").strip().split("\n\n")
    lost = {(row["arm"], row["figure"]): row["excess"] for row in json.loads(line)["rows"]}
    assert lost["temperature", "prior"] < lost["temperature", "no prior"]
    for arm, figure in lost:
        if figure.endswith(", no prior"):
            assert lost[arm, figure.removesuffix(", no prior")] < lost[arm, figure]
    for (_, figure), value in lost.items():
        assert f"| {figure} | {value:.1f} |" in "\n".join(tables)


def test_coverage_of_the_data_card_at_a_tiny_size(script: Script) -> None:
    *_, line = script("coverage_card.py", "--small").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"shares", "elo", "dots"}
    assert all(row["per_cent"] is None or 0 <= row["per_cent"] <= 100 for row in rows)


def test_coverage_of_agreement_at_a_tiny_size(script: Script) -> None:
    *_, line = script("agreement.py", "--small").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"taste", "slips"}
    covered = [row["per_cent"] for row in rows]
    assert sum(covered) / len(covered) > 80


@pytest.mark.nightly
@pytest.mark.usefixtures("few_trees")
def test_every_variant_of_the_ladder_is_measured(script: Script, tmp_path: Path) -> None:
    arguments = ("--work", str(tmp_path), "--seeds", "2", "--votes", "240")
    table, line = script("ladder.py", *arguments).strip().split("\n\n")[-2:]
    found = json.loads(line)
    rows = {row["variant"]: row for row in found["rows"]}
    for name, row in rows.items():
        assert row["excess"]["value"] > 0, "nothing is better than the truth"
        assert f"| {name} | {row['excess']['value']:.5f} |" in table
        if below := row.get("below"):
            change = row["excess"]["value"] - rows[below]["excess"]["value"]
            assert row["change"]["value"] == pytest.approx(change)
    of_seeds = {name: tuple(seed["excess"][name] for seed in found["found"]) for name in rows}
    assert len(set(of_seeds.values())) == len(rows), "no variant is another by mistake"


def test_without_data_real_votes_are_skipped(script: Script, tmp_path: Path) -> None:
    assert "skipped" in script("real_votes.py", str(tmp_path), "--work", str(tmp_path))


def test_without_data_pretrained_votes_are_skipped(script: Script, tmp_path: Path) -> None:
    assert "skipped" in script("pretrained.py", str(tmp_path), "--base", "none", "--work", str(tmp_path))


@pytest.mark.parametrize("month", ["202611", "202612"])
def test_the_page_of_pretrained_votes_shows_every_arm(monkeypatch: pytest.MonkeyPatch, month: str) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    namespace = runpy.run_path(str(BENCHMARKS / "pretrained.py"))
    written = json.loads((BENCHMARKS / "results" / f"pretrained-h200-{month}.json").read_text())
    table = "\n".join(namespace["markdown"](written["rows"]))
    page = namespace["page"](table, written)
    assert all(f"| {row['arm']} | {row['log_loss']['value']:.4f} (" in page for row in written["rows"])
    assert table in (BENCHMARKS / "results" / f"pretrained-h200-{month}.md").read_text()


def test_the_page_of_real_votes_says_how_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import real_votes

    for device, card in (("cpu", "CPU"), ("cuda", "NVIDIA H100 80GB HBM3")):
        facts = {"card": card, "size": "256 x 6, 2 epochs, rate 0.001"}
        page = real_votes.page("| arm |", facts, real_votes.SCALES[device], 5.0)
        assert f"--device {device} --minutes 5 --write" in page
        assert "| arm |" in page
        assert "{" not in page


@pytest.mark.nightly
@pytest.mark.usefixtures("few_trees")
def test_real_votes_at_a_tiny_size(script: Script, shared_data: Path, tmp_path: Path) -> None:
    arguments = (str(shared_data), "--work", str(tmp_path), "--small")
    table, line = script("real_votes.py", *arguments).split("\n\n", 1)[1].strip().split("\n\n")
    found = json.loads(line)
    assert [row["arm"] for row in found["rows"]] == [
        line.split(" | ")[0][2:] for line in table.splitlines()[2:]
    ]
    assert all(0.8 < row["log_loss"]["value"] < 1.4 for row in found["rows"])


def test_a_base_model_reads_nothing_of_the_lockbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import language_model

    votes = synthetic.generate(24, seed=1).select(SCHEMA.names)
    fold = pa.array([LOCKBOX if n % 3 == 0 else n % 2 for n in range(24)], pa.int8())
    rows = votes.append_column("group", votes["id"]).append_column("fold", fold)
    write_table(rows, tmp_path / "rows.parquet")
    write_table(votes.slice(0, 2), tmp_path / "preferences.parquet")
    read, _ = language_model.readable(tmp_path)
    assert read["id"].to_pylist() == [vote for n, vote in enumerate(votes["id"].to_pylist()) if n % 3]
    pretraining = language_model.Pretraining(epochs=4, batch=4, tokens=64, warmup_steps=2)
    for family in ("llama", "gemma2"):
        make = partial(
            language_model.make, tmp_path / family, family, tmp_path, pretraining,
            vocab=512, hidden=32, layers=1, heads=2,
        )  # fmt: skip
        made = make()
        assert made["loss"] < 6.0, "below ln 512, what a random model has"
        assert make() == made, "what is there is kept"
        assert classifier.load(tmp_path / family).head_trained is False


def test_near_duplicates_are_found_by_their_disguise(script: Script) -> None:
    *_, line = script("near_duplicates.py", "--small").strip().split("\n\n")
    rows = {row["kind"]: row for row in json.loads(line)["rows"]}
    for row in rows.values():
        assert row["after"] >= row["before"] if row["of"] == "disguise" else row["after"] == 0, row
    for kind in ("combining marks", "accents", "a system prompt in front", "one more turn"):
        assert rows[kind]["after"] == 1 > rows[kind]["before"]


def test_rankings_are_measured_beside_random_pairs(script: Script) -> None:
    table, line = script("rank.py", "--small").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"schedule", "random", "reference"}
    all_pairs = {row["arm"]: row["tau"] for row in rows if (row["noise"], row["pairs"]) == (1.0, 45)}
    assert all_pairs["schedule"] == all_pairs["random"] > 0.7, "all pairs are all pairs, however chosen"
    assert f"| {rows[0]['arm']} | {rows[0]['pairs']} | {rows[0]['tau']} |" in table


def test_every_rule_of_which_pairs_next_is_measured_beside_random(script: Script) -> None:
    line = script("active.py", "--small", "--processes", "1").strip().split("\n\n")[-1]
    rows = json.loads(line)["rows"]
    curves = {(row["world"], row["rule"]): tuple(row["curve"]) for row in rows}
    assert len(curves) == len(set(curves.values())) == 27, "no rule is another by mistake"
    for (world, _), curve in curves.items():
        assert curve[0] == curves[world, "random"][0], "all begin with the same votes"


def test_the_page_of_which_pairs_next_is_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import active
    from machine import table

    written = json.loads(active.RESULT.with_suffix(".json").read_text())
    page = active.page(table(active.COLUMNS, written["rows"]), written)
    assert page == active.RESULT.with_suffix(".md").read_text()


def test_growth_is_measured_at_three_sizes(script: Script) -> None:
    table, line = script("growth.py", "--small", "--case", "equal rows").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert [(row["rows"], row["votes"], row["groups"]) for row in rows] == [
        (n, n, 1) for n in (250, 1000, 4000)
    ]
    for row in rows:
        assert row["peak_gib"] > 0.05
        assert f"| equal rows | {row['rows']:,} |" in table


@pytest.mark.nightly
def test_prediction_is_measured_beside_the_scorer(script: Script) -> None:
    table, line = (
        script("predict.py", "--block", "40", "--pairs", "40", "60", "--kills", "1")
        .strip()
        .split("\n\n")[-2:]
    )
    rows = json.loads(line)["rows"]
    arms = ["scorer", "jsonl"]
    assert [(row["arm"], row["pairs"]) for row in rows[:-1]] == [(arm, n) for n in (40, 60) for arm in arms]
    assert rows[-1]["arm"] == "jsonl, killed"
    for row in rows[:-1]:
        assert row["peak_gib"] > 0.05
        assert f"| {row['arm']} | {row['pairs']} |" in table


@pytest.mark.nightly
def test_a_server_is_measured_beside_the_scorer(script: Script) -> None:
    table, line = (
        script("serve.py", "--clients", "4", "--seconds", "6", "--pairs", "2").strip().split("\n\n")[-2:]
    )
    scorer, served, stopped = json.loads(line)["rows"]
    assert min(scorer["pairs_per_s"], served["pairs_per_s"], stopped["pairs_per_s"]) > 0
    assert (served["errors"], served["lost"], stopped["errors"], stopped["lost"]) == (0, 0, 0, 0)
    assert f"| served | 4 | 2 | {served['seconds']} |" in table


def test_growth_is_the_exponent_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    with_growth = runpy.run_path(str(BENCHMARKS / "growth.py"))["with_growth"]
    sizes = [{"rows": n, "cpu_seconds": n**2 / 100} for n in (10, 20, 80)]
    assert [row.get("growth") for row in with_growth(sizes)] == [None, 2.0, 2.0]


@pytest.mark.thorough
def test_latency_has_a_reference_beside_each_figure(script: Script) -> None:
    pairs, loading, line = script("latency.py", "--shapes", "tiny", "--times", "2").strip().split("\n\n")
    found = json.loads(line)
    rows = {(row["pair"], row["orders"], row["arm"]): row for row in found["rows"]}
    assert len(rows) == 8
    assert all(0 < row["p50_ms"] <= row["p99_ms"] for row in rows.values())
    assert rows["long", 2, "tiebreak"]["tokens"] > 1000 > 100 > rows["short", 2, "plain"]["tokens"]
    assert set(found["loading"][0]) == {"shape", "imports_s", "weights_s", "warm_up_s"}
    assert "p99_ms" in pairs
    assert "warm_up_s" in loading


def test_comparisons_of_models_at_a_tiny_size(script: Script) -> None:
    *_, line = script("compare.py", "--small", "--processes", "1").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"perfect", "biased", "miscalibrated", "adversarial"}
    assert all(row["per_cent"] is not None for row in rows)
    *_, line = script("compare_choice.py", "--small", "--processes", "1").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"leaders", "apart", "votes"}
    assert all(row["per_cent"] >= 0 for row in rows)
    *_, line = script("bench_coverage.py", "--small", "--processes", "1").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"middling", "good", "excellent"}
    assert all(row["per_cent"] >= 0 for row in rows)
    *_, line = script("compare_style.py", "--small", "--processes", "1").strip().split("\n\n")
    rows = json.loads(line)["rows"]
    assert {row["arm"] for row in rows} == {"perfect", "biased", "miscalibrated", "adversarial"}
    assert all(row["per_cent"] is not None for row in rows)
    *_, line = script("compare_scale.py", "--comparisons", "400", "--models", "4").strip().split("\n\n")
    assert json.loads(line)["pairs"] == 6


def test_comparisons_on_real_votes_are_as_they_were_written(
    monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    """By the same judge of words, trained anew: strengths within an Elo point."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    measured = runpy.run_path(str(BENCHMARKS / "compare_real.py"))["measured"]
    written = json.loads((BENCHMARKS / "results" / "compare-real-cpu-202612.json").read_text())["found"]
    found = measured(shared_data)
    assert found.keys() == written.keys()
    for name, one in found.items():
        assert one["used"] == written[name]["used"]
        assert one["effective_votes"] == pytest.approx(written[name]["effective_votes"], abs=2)
        for row, expected in zip(one["models"], written[name]["models"], strict=True):
            assert row.pop("model") == expected.pop("model")
            assert all(row[source] == pytest.approx(expected[source], abs=1) for source in expected)


def test_each_task_costs_few_operations_on_a_file_system_far_away(script: Script) -> None:
    """A manifest is opened once a task, but for one that threads read side by side."""
    *_, line = script("far_away.py", "--tasks", "100", "--milliseconds", "0").splitlines()
    for name in ("plan", "status"):
        found = json.loads(line)[name]
        assert found["tasks"] == 101
        assert 101 <= found["calls"]["open"] <= 101 + 40
        assert sum(found["calls"].values()) <= 10 * 101 + 100

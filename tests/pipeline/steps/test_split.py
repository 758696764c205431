from collections import defaultdict
from random import Random

import pyarrow.parquet as pq
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.pipeline.steps import split
from tiebreak.recipe.schema import Split
from tiebreak.runtime import Runtime
from tiebreak.votes.schema import CALIBRATION, EXTRA, LOCKBOX, ROWS_SCHEMA, table_of, write_table


def vote(name, prompt, label=0):
    answers = {"response_a": ["yes"], "response_b": ["no"], "model_a": "m", "model_b": "n"}
    p = dict(zip(("p_a", "p_b", "p_tie"), [float(label == c) for c in range(3)], strict=True))
    return {"id": name, "prompt": [prompt], **answers, **p}


def prompts(count):
    """Texts that have nothing in common; the first ones are the same for every count."""
    return [
        " ".join("".join(Random(n * 6 + k).choices("abcdefghijkl", k=6)) for k in range(6))
        for n in range(count)
    ]


def run(tmp_path, count=3, lockbox_share=0.1, seed=0, calibration_share=0.0, drop_overlaps=True, **roles):
    inputs = {}
    for role, votes in roles.items():
        folder = tmp_path / role
        folder.mkdir(exist_ok=True)
        write_table(table_of(votes), folder / "votes.parquet")
        inputs[role] = (folder,)
    output = tmp_path / "out"
    output.mkdir(exist_ok=True)
    shares = {"lockbox_share": lockbox_share, "calibration_share": calibration_share}
    settings = split.Settings(split=Split(count=count, drop_overlaps=drop_overlaps, **shares), seed=seed)
    metrics = split.run(settings, inputs, output, Runtime("cpu", output))
    return metrics, pq.read_table(output / "rows.parquet").to_pylist()


def labelled(texts):
    return [vote(f"v{n}", text, n % 3) for n, text in enumerate(texts)]


def test_every_vote_is_in_one_place_and_groups_are_never_cut(tmp_path):
    texts = prompts(200) + [text.upper() + " ?!" for text in prompts(100)]
    metrics, rows = run(tmp_path, votes=labelled(texts))
    assert metrics["votes"] == len(rows) == 300
    assert metrics["groups"] == 200
    assert {row["fold"] for row in rows} == {LOCKBOX, 0, 1, 2}
    places = defaultdict(set)
    for row in rows:
        places[row["prompt"][0].upper().strip(" ?!")].add((row["group"], row["fold"]))
    assert {len(found) for found in places.values()} == {1}
    sizes = [metrics["lockbox"], *(metrics[f"fold{fold}"] for fold in range(3))]
    assert sizes == [sum(row["fold"] == fold for row in rows) for fold in (LOCKBOX, 0, 1, 2)]


def test_a_vote_keeps_its_weight(tmp_path):
    votes = [vote | {"weight": n / 8} for n, vote in enumerate(labelled(prompts(40)))]
    _, rows = run(tmp_path, votes=votes, extra=[vote("x", "something else") | {"weight": 9.0}])
    assert {row["id"]: row["weight"] for row in rows} == {v["id"]: v["weight"] for v in votes} | {"x": 9.0}


def test_a_session_is_never_cut_however_long_it_is(tmp_path):
    votes = [row | {"session": f"s{n // 30}"} for n, row in enumerate(labelled(prompts(300)))]
    metrics, rows = run(tmp_path, votes=votes)
    assert (metrics["groups"], metrics["largest_group"]) == (10, 30)
    assert len({(row["session"], row["fold"]) for row in rows}) == 10
    extra = [
        vote("e", prompts(400)[399]) | {"session": "s3"},
        vote("f", prompts(400)[398]) | {"session": "else"},
    ]
    metrics, _ = run(tmp_path, votes=votes, extra=extra)
    assert (metrics["extra_dropped_in_votes"], metrics["extra"]) == (1, 1)


def test_a_calibration_side_is_set_aside_beside_the_lockbox(tmp_path):
    metrics, rows = run(tmp_path, calibration_share=0.2, votes=labelled(prompts(200)))
    assert metrics["calibration"] == sum(row["fold"] == CALIBRATION for row in rows) > 0
    assert metrics["lockbox"] == sum(row["fold"] == LOCKBOX for row in rows) > 0
    with pytest.raises(
        TiebreakError, match=r"into the calibration side: raise split\.calibration_share=0\.0001"
    ):
        run(tmp_path, calibration_share=0.0001, votes=labelled(prompts(20)))


def test_rows_that_are_added_move_no_other(tmp_path):
    few, many = labelled(prompts(150)), labelled(prompts(400))
    _, before = run(tmp_path, votes=few)
    _, after = run(tmp_path, votes=many[::-1])
    fold = {row["id"]: row["fold"] for row in after}
    assert all(fold[row["id"]] == row["fold"] for row in before)


def test_one_more_fold_moves_only_what_it_wins(tmp_path):
    votes = labelled(prompts(400))
    _, three = run(tmp_path, votes=votes, count=3)
    _, four = run(tmp_path, votes=votes, count=4)
    moved = [b["fold"] for a, b in zip(three, four, strict=True) if a["fold"] != b["fold"]]
    assert set(moved) == {3}


def test_the_seed_changes_the_folds(tmp_path):
    votes = labelled(prompts(100))
    _, one = run(tmp_path, votes=votes, seed=1)
    _, two = run(tmp_path, votes=votes, seed=2)
    assert [row["fold"] for row in one] != [row["fold"] for row in two]


def test_folds_are_even_as_a_random_draw_is(tmp_path):
    metrics, _ = run(tmp_path, votes=labelled(prompts(3000)), lockbox_share=0.2)
    # four standard deviations of a binomial draw
    assert abs(metrics["lockbox"] - 600) < 4 * (3000 * 0.2 * 0.8) ** 0.5
    assert 0 < metrics["size_imbalance"] < 4 * (2 / 2400) ** 0.5
    assert 0 < metrics["label_imbalance"] < 4 * (2 / 9 / 800) ** 0.5


def test_overlaps_leave_the_training_side(tmp_path):
    texts = prompts(100)
    metrics, rows = run(
        tmp_path,
        votes=labelled(texts),
        extra=[vote("v0", "a question of its own"), vote("x", texts[1].title()), vote("y", texts[90])],
        preferences=[vote("p", "one more question"), vote("q", texts[3]), vote("r", "unseen pair")],
        test=[vote("t", texts[90] + "."), vote("u", "unseen pair")],
    )
    extra = [row for row in rows if row["fold"] == EXTRA]
    assert [(row["id"], row["prompt"][0]) for row in extra] == [("extra/v0", "a question of its own")]
    assert texts[90] not in [row["prompt"][0] for row in rows]
    preferences = pq.read_table(tmp_path / "out" / "preferences.parquet").to_pylist()
    assert [row["id"] for row in preferences] == ["p"]
    expected = {
        "votes": 99,
        "votes_dropped_in_test": 1,
        "extra": 1,
        "extra_dropped_in_votes": 1,
        "extra_dropped_in_test": 1,
        "preferences": 1,
        "preferences_dropped_in_votes": 1,
        "preferences_dropped_in_test": 1,
    }
    assert {name: metrics[name] for name in expected} == expected


def test_all_variants_of_a_test_prompt_leave_the_training_side(tmp_path):
    texts, base = prompts(100), " ".join(prompts(103)[100:])
    variants = [f"{base} {n}" for n in range(100, 161)]
    extra = [vote(f"x{n}", text) for n, text in enumerate(variants[30:60])]
    votes, test = labelled(texts + variants[:30]), [vote("t", variants[60])]
    metrics, rows = run(tmp_path, votes=votes, extra=extra, test=test)
    assert {row["prompt"][0] for row in rows} == set(texts)
    assert (metrics["votes_dropped_in_test"], metrics["extra_dropped_in_test"]) == (30, 30)


def test_overlaps_may_stay_and_are_counted(tmp_path):
    texts = prompts(100)
    extra = [vote("x", texts[1].title()), vote("y", texts[90])]
    metrics, rows = run(
        tmp_path, drop_overlaps=False, votes=labelled(texts), extra=extra, test=[vote("t", texts[90])]
    )
    assert sum(row["fold"] == EXTRA for row in rows) == metrics["extra"] == 2
    assert metrics["votes"] == 100
    kept = {name: metrics[name] for name in metrics if "_kept_" in name}
    assert kept == {"votes_kept_in_test": 1, "extra_kept_in_test": 1, "extra_kept_in_votes": 1}


def test_pairs_without_votes_join_the_training_sides_alone(tmp_path):
    texts = prompts(100)
    pairs = [vote("v0", "a question of its own"), vote("x", texts[1].title()), vote("y", "unseen pair")]
    for pair in pairs:
        pair |= dict.fromkeys(("p_a", "p_b", "p_tie"))
    metrics, rows = run(tmp_path, votes=labelled(texts), unlabelled=pairs, test=[vote("t", "Unseen pair!")])
    assert EXTRA not in {row["fold"] for row in rows}
    unlabelled = pq.read_table(tmp_path / "out" / "unlabelled.parquet")
    assert unlabelled.schema.names == ROWS_SCHEMA.names
    assert [(row["id"], row["fold"], row["p_a"]) for row in unlabelled.to_pylist()] == [
        ("unlabelled/v0", EXTRA, None)
    ]
    expected = {"unlabelled": 1, "unlabelled_dropped_in_test": 1, "unlabelled_dropped_in_votes": 1}
    assert {name: metrics[name] for name in expected} == expected


@pytest.mark.parametrize(("texts", "place"), [(["same"] * 50, "folds"), (prompts(30), "lockbox")])
def test_an_empty_place_is_an_error_and_leaves_nothing(tmp_path, texts, place):
    with pytest.raises(TiebreakError, match=f"no votes fall into the {place}"):
        run(tmp_path, votes=labelled(texts), lockbox_share=0.001)
    assert list((tmp_path / "out").iterdir()) == []


def test_small_sides_are_warned_of(tmp_path, caplog):
    metrics, _ = run(tmp_path, calibration_share=0.2, votes=labelled(prompts(150)))
    few, lockbox, calibration = caplog.messages
    assert few.startswith("150 votes are few to learn from")
    assert lockbox.startswith(
        f"lockbox: {metrics['lockbox']} votes on {metrics['lockbox']} prompts: fewer than 30"
    )
    assert f"fitted on {metrics['calibration']} votes" in calibration


def test_a_lockbox_counts_its_prompts(tmp_path, caplog):
    texts = [text for text in prompts(60) for _ in range(20)]
    metrics, rows = run(tmp_path, votes=labelled(texts), lockbox_share=0.3)
    found = len({row["group"] for row in rows if row["fold"] == LOCKBOX})
    assert metrics["lockbox"] == 20 * found > 200
    assert f"{metrics['lockbox']} votes on {found} prompts" in caplog.text


def test_enough_votes_are_no_matter(tmp_path, caplog):
    run(tmp_path, votes=labelled(prompts(800)), lockbox_share=0.3, calibration_share=0.2)
    assert not caplog.messages


def test_ties_alone_are_an_error_and_one_side_alone_a_warning(tmp_path, caplog):
    texts = prompts(60)
    with pytest.raises(TiebreakError, match="all 60 votes are ties"):
        run(tmp_path, votes=[vote(f"v{n}", text, 2) for n, text in enumerate(texts)])
    run(tmp_path, votes=[vote(f"v{n}", text, 1) for n, text in enumerate(texts)])
    assert caplog.messages[0].startswith("all 60 votes prefer B")

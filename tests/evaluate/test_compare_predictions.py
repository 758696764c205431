import json
from pathlib import Path

import numpy as np
import pytest

from tiebreak.errors import TiebreakError
from tiebreak.evaluate import submission
from tiebreak.evaluate.compare_predictions import CLASS_SHARES, compare_predictions
from tiebreak.stats.blend import LinearBlend
from tiebreak.stats.calibration_test import calibration_error
from tiebreak.stats.metrics import Bootstrap, log_loss, summarise
from tiebreak.stats.nested_cv import splits
from tiebreak.votes.formats.readers import read_whole
from tiebreak.votes.near_duplicates import prompt_groups

BOOTSTRAP = Bootstrap(40)


@pytest.fixture
def predicted(tmp_path) -> tuple[Path, np.ndarray]:
    p = np.random.default_rng(0).dirichlet([1, 1, 1], size=40)
    submission.write([str(n) for n in range(40)], p, tmp_path / "predictions.csv")
    return tmp_path / "predictions.csv", p


def votes(folder: Path, labels: list[int], prompt_of: int = 4) -> Path:
    """JSON lines, several votes on each prompt, in reverse order."""
    winners = ("model_a", "model_b", "tie")
    lines = [
        {"id": n, "prompt": f"p{n // prompt_of}", "response_a": "x", "response_b": "y", "winner": winners[y]}
        for n, y in enumerate(labels)
    ]
    path = folder / "votes.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in reversed(lines)))
    return path


def test_votes_are_matched_by_id_and_resampled_by_prompt(predicted, tmp_path):
    path, p = predicted
    labels = [n % 3 for n in range(40)]
    scored, _ = compare_predictions([path], votes(tmp_path, labels), BOOTSTRAP)
    found = scored.metrics
    assert scored.rows == 40
    assert found["log_loss"].value == pytest.approx(log_loss(p, labels))
    by_prompt = summarise([p[::-1]], labels[::-1], BOOTSTRAP, np.arange(40)[::-1] // 4)
    assert found["log_loss"] == by_prompt["log_loss"]
    assert found["log_loss"].low is None, "ten prompts"


def test_a_solution_of_soft_labels(predicted, tmp_path):
    path, p = predicted
    y = np.random.default_rng(1).dirichlet([1, 1, 1], size=40)
    submission.write([str(n) for n in range(40)], y, tmp_path / "solution.csv")
    scored, _ = compare_predictions([path], tmp_path / "solution.csv", BOOTSTRAP)
    assert scored.rows == 40
    assert scored.metrics["log_loss"].value == pytest.approx(log_loss(p, y))


def test_predictions_may_cover_more_than_the_labels(predicted, tmp_path):
    path, p = predicted
    scored, _ = compare_predictions([path], votes(tmp_path, [0, 1, 2]), BOOTSTRAP)
    assert scored.rows == 3
    assert scored.metrics["accuracy"].value == pytest.approx((p[:3].argmax(axis=1) == [0, 1, 2]).mean())


def test_a_label_without_a_prediction_is_named(predicted, tmp_path):
    with pytest.raises(TiebreakError, match=r"5 of 45 labelled ids have no prediction in .*, such as '44'"):
        compare_predictions([predicted[0]], votes(tmp_path, [0] * 45), BOOTSTRAP)


@pytest.fixture
def three(tmp_path) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """Files of two models that know something and one that knows nothing, ids in orders of their own."""
    random = np.random.default_rng(2)
    true = random.dirichlet([1, 1, 1], size=400)
    labels = np.array([random.choice(3, p=p) for p in true])
    predictions = [true * 0.8 + 0.2 / 3, true**2, random.dirichlet([2, 2, 2], size=400)]
    x = np.stack([p / p.sum(axis=1, keepdims=True) for p in predictions], axis=1)
    files = [tmp_path / f"m{m}.csv" for m in range(3)]
    for m, path in enumerate(files):
        order = random.permutation(400)
        submission.write([str(n) for n in order], x[order, m], path)
    return files, x, labels


def test_several_files_are_scored_each_and_blended(three, tmp_path):
    files, x, labels = three
    truth = votes(tmp_path, labels.tolist())
    found = {
        scored.name: scored for scored in compare_predictions(files, truth, BOOTSTRAP, weights=[2, 1, 0])
    }
    assert list(found)[:3] == [str(path) for path in files]
    expected = {"blend, equal weights": x.mean(axis=1), "blend, weights given": (2 * x[:, 0] + x[:, 1]) / 3}
    for name, p in expected.items():
        assert found[name].metrics["log_loss"].value == pytest.approx(log_loss(p, labels))
    change = found["blend, equal weights"].metrics["log_loss_change"]
    assert change.value == pytest.approx(log_loss(x.mean(axis=1), labels) - log_loss(x[:, 0], labels))
    assert "log_loss_change" not in found[str(files[0])].metrics


def test_weights_by_nested_cv_are_fitted_without_the_prompt_they_score(three, tmp_path):
    files, x, labels = three
    scored = compare_predictions(files, votes(tmp_path, labels.tolist()), BOOTSTRAP)[-2]
    prompts = prompt_groups(read_whole(tmp_path / "votes.jsonl", "votes"))  # in the file's order
    assert len(set(prompts)) == 100
    p = np.empty((400, 3))
    for fit, score in splits(prompts):
        blend = LinearBlend().fit(x[::-1][fit], labels[::-1][fit])
        p[score] = blend.predict_proba(x[::-1][score])
    assert scored.name == "blend, weights by nested CV"
    assert scored.metrics["log_loss"].value == pytest.approx(log_loss(p, labels[::-1]))
    assert scored.weights == pytest.approx(LinearBlend().fit(x, labels).weights_.tolist(), abs=1e-6)
    assert scored.weights[2] < 0.05


def test_too_few_prompts_to_fit_weights_leave_that_blend_out(predicted, tmp_path):
    found = compare_predictions([predicted[0]] * 2, votes(tmp_path, [n % 3 for n in range(36)]), BOOTSTRAP)
    assert [scored.weights for scored in found] == [None, None, (0.5, 0.5), None]


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")]])
def test_invalid_weights_are_refused(predicted, tmp_path, weights):
    with pytest.raises(TiebreakError, match="weights must be 2 numbers"):
        compare_predictions([predicted[0]] * 2, votes(tmp_path, [0, 1]), BOOTSTRAP, weights)


@pytest.mark.slow
def test_models_predict_once_and_score_as_files(three, tmp_path):
    files, x, labels = three
    truth = votes(tmp_path, labels.tolist())
    models = [tmp_path / "model", tmp_path / "recipe.yaml"]
    models[0].mkdir()
    models[1].touch()
    asked = []

    def predict(folders, table):
        asked.append(folders)
        assert table["response_a"].to_pylist() == [["x"]] * 400
        return x[[int(vote) for vote in table["id"].to_pylist()], 1:]

    mixed = [models[0], files[0], models[1], models[0]]
    found = compare_predictions(mixed, truth, BOOTSTRAP, [4, 3, 2, 1], predict)
    expected = compare_predictions([files[1], files[0], files[2], files[1]], truth, BOOTSTRAP, [4, 3, 2, 1])
    assert asked == [models]
    assert [scored.name for scored in found[:4]] == [str(path) for path in mixed]
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours.metrics, ours.weights) == (theirs.metrics, theirs.weights)


def test_models_need_texts_and_existing_paths(predicted, tmp_path):
    def predict(folders, table):
        raise AssertionError("asked in vain")

    with pytest.raises(TiebreakError, match=r"predictions.csv holds labels without texts, so .* has nothing"):
        compare_predictions([tmp_path], predicted[0], BOOTSTRAP, predict=predict)
    with pytest.raises(TiebreakError, match=r"no model folder, recipe or file of predictions at .*gone"):
        compare_predictions([tmp_path / "gone"], votes(tmp_path, [0, 1]), BOOTSTRAP, predict=predict)
    with pytest.raises(TiebreakError, match="5 of 45 labelled ids have no prediction"):
        compare_predictions([tmp_path, predicted[0]], votes(tmp_path, [0] * 45), BOOTSTRAP, predict=predict)


def test_labels_are_read_whole_or_not_at_all(predicted, tmp_path):
    labels = votes(tmp_path, [0, 1, 2])
    with labels.open("a") as more:
        more.write('\n{"id": 9, "prompt": "p", "response_a": "x", "response_b": "y", "winner": "nobody"}')
    with pytest.raises(TiebreakError, match=r"1 of the rows in .* the first is row 4: unknown winner"):
        compare_predictions([predicted[0]], labels, BOOTSTRAP)


def test_calibration_comes_with_what_calibrated_predictions_would_show(three, tmp_path):
    files, x, labels = three
    truth = votes(tmp_path, labels.tolist())
    figures = compare_predictions([files[1]], truth, BOOTSTRAP)[0].figures()
    prompts = prompt_groups(read_whole(truth, "votes"))  # in the file's order
    expected = calibration_error([x[::-1, 1]], labels[::-1], BOOTSTRAP, prompts)
    for name in ("when_calibrated", "limit", "p"):
        assert figures[f"ece_{name}"] == {"value": getattr(expected, name), "low": None, "high": None}
    assert figures["ece"]["value"] > expected.limit
    assert figures["calibration_p"]["value"] < 0.001


def test_the_class_shares_of_these_votes_come_last(three, tmp_path):
    files, x, labels = three
    found = compare_predictions(files, votes(tmp_path, labels.tolist()), BOOTSTRAP)
    shares = np.bincount(labels) / 400
    prior = np.tile(shares, (400, 1))
    last = found[-1]
    assert (last.name, last.verdict) == (CLASS_SHARES, None)
    assert last.metrics["log_loss"].value == pytest.approx(log_loss(prior, labels))
    for scored, m in zip(found[:3], range(3), strict=True):
        expected = log_loss(x[:, m], labels) - log_loss(prior, labels)
        assert scored.metrics["change_from_shares"].value == pytest.approx(expected)
    assert found[0].verdict.use
    assert found[2].verdict.headline.startswith("Do not use: worse than the class shares")


def test_numbers_that_are_no_probabilities_are_refused(predicted, tmp_path):
    path, _ = predicted
    text = path.read_text().splitlines()
    first, *rest = text[1].split(",")
    percent = tmp_path / "percent.csv"
    percent.write_text(
        "\n".join([text[0], ",".join([first, *(str(100 * float(x)) for x in rest)]), *text[2:]])
    )
    with pytest.raises(TiebreakError, match=r"of '0' in .*percent\.csv add up to 100, not 1"):
        compare_predictions([percent], votes(tmp_path, [n % 3 for n in range(40)]), BOOTSTRAP)

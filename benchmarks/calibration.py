"""Calibrators and blends on real out-of-fold probabilities, against scikit-learn's calibration.

    python benchmarks/calibration.py DATA [--write]

DATA (or the environment variable TIEBREAK_TEST_DATA) is a folder that holds oof/lmsys_llm_oof.parquet and
oof/lmsys_lexical_oof.parquet. Every figure is a log loss of predictions for rows that the calibrator or blend
was not fitted on. Prints tables, then one line of JSON; --write keeps both under benchmarks/results.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from machine import processor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator

from tiebreak.stats.blend import EqualBlend, LinearBlend, LogBlend, MatrixBlend
from tiebreak.stats.calibration import MatrixScaling, TemperatureScaling, VectorScaling
from tiebreak.stats.calibration_test import calibration_error
from tiebreak.stats.metrics import Array, Bootstrap, difference, log_loss
from tiebreak.stats.nested_cv import nested, out_of_fold, splits

FOLDS = 5
BOOTSTRAP = Bootstrap(1000)
RESULT = Path(__file__).parent / "results" / "calibration-cpu-202611"


class Given(ClassifierMixin, BaseEstimator):
    """A classifier whose input is its output, so that scikit-learn calibrates given probabilities."""

    classes_ = np.arange(3)

    def fit(self, x, y):
        return self

    def predict(self, x):
        return x.argmax(axis=1)

    def predict_proba(self, x):
        return x

    def __sklearn_is_fitted__(self):
        return True


class Sklearn(BaseEstimator):
    """scikit-learn's CalibratedClassifierCV around probabilities that are given."""

    def __init__(self, method: str = "temperature") -> None:
        self.method = method

    def fit(self, x, labels):
        self.calibrated_ = CalibratedClassifierCV(FrozenEstimator(Given()), method=self.method)
        self.calibrated_.fit(x, labels.argmax(axis=1))
        return self

    def predict_proba(self, x):
        return self.calibrated_.predict_proba(x)


OURS = {
    "temperature": TemperatureScaling(),
    "vector, symmetric": VectorScaling(),
    "vector": VectorScaling(symmetric=False),
    "matrix, symmetric": MatrixScaling(),
    "matrix": MatrixScaling(symmetric=False),
}
THEIRS = {f"scikit-learn {method}": Sklearn(method) for method in ("temperature", "sigmoid", "isotonic")}
BLENDS = {"equal": EqualBlend(), "linear": LinearBlend(), "log": LogBlend(), "matrix": MatrixBlend()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("data", nargs="?", default=os.environ.get("TIEBREAK_TEST_DATA"), type=Path)
    arguments.add_argument("--write", action="store_true")
    chosen = arguments.parse_args()
    if chosen.data is None or not (chosen.data / "oof").is_dir():
        print(
            f"skipped: {chosen.data} holds no folder oof; name the data as argument or in TIEBREAK_TEST_DATA"
        )
        return
    began = time.perf_counter()
    models, labels = read(chosen.data / "oof")
    rows = [row for name in models for row in calibrations(name, models[name], labels[name])]
    rows += blends(models, labels["ensemble"])
    facts = {
        "seconds": round(time.perf_counter() - began, 1),
        "processor": f"{processor()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        **{name: version(name) for name in ("tiebreak", "scikit-learn", "numpy", "scipy")},
    }
    table = "\n".join(markdown(rows))
    line = json.dumps({"benchmark": "calibration", "folds": FOLDS, **facts, "rows": rows})
    print(table, line, sep="\n\n")
    if chosen.write:
        RESULT.with_suffix(".json").write_text(line + "\n")
        RESULT.with_suffix(".md").write_text(page(table, facts))


def read(folder: Path) -> tuple[dict[str, Array], dict[str, Array]]:
    """Probabilities (n, 3) and labels (n,) of each model; columns do not sum to one exactly."""
    llm = pq.read_table(folder / "lmsys_llm_oof.parquet").to_pandas()
    weak = pq.read_table(folder / "lmsys_lexical_oof.parquet").to_pandas()
    columns = {"lexical": "lex_best_oof", "embedding": "emb_best_oof", "ensemble": "oof_predictions_ensemble"}
    models = {"LLM": llm[["p_a", "p_b", "p_tie"]].to_numpy()}
    models |= {name: weak[[f"{c}_{x}" for x in "abt"]].to_numpy(float) for name, c in columns.items()}
    labels = {name: (llm if name == "LLM" else weak)["label"].to_numpy() for name in models}
    return {name: p_NC / p_NC.sum(axis=1, keepdims=True) for name, p_NC in models.items()}, labels


def calibrations(model: str, p_NC: Array, labels: Array) -> list[dict[str, Any]]:
    """Every calibrator on one model's probabilities, each row by a fit without its fold."""
    groups_N = np.arange(len(labels))  # the prompts are not in these files
    folds = splits(groups_N, FOLDS)
    rows = [scored(model, "raw", p_NC, p_NC, labels)]
    for name, calibrator in (OURS | THEIRS).items():
        began = time.process_time()
        q_NC = out_of_fold(calibrator, p_NC, labels, folds)
        seconds = (time.process_time() - began) / FOLDS
        rows.append(scored(model, name, q_NC, p_NC, labels) | {"cpu_seconds_per_fit": round(seconds, 3)})
    found = nested(OURS, p_NC, labels, groups_N, FOLDS)
    return [*rows, scored(model, "chosen by nested CV", found.predictions, p_NC, labels, found.chosen)]


def blends(models: Mapping[str, Array], labels: Array) -> list[dict[str, Any]]:
    """The weak models blended, against the ensemble that came with them."""
    rows = []
    groups_N = np.arange(len(labels))
    folds = splits(groups_N, FOLDS)
    for names in (("lexical", "embedding"), ("lexical", "embedding", "ensemble")):
        model, x_NMC = " + ".join(names), np.stack([models[name] for name in names], axis=1)
        for name, blend in BLENDS.items():
            p_NC = out_of_fold(blend, x_NMC, labels, folds)
            rows.append(scored(model, name, p_NC, models["ensemble"], labels))
        found = nested(BLENDS, x_NMC, labels, groups_N, FOLDS)
        p_NC = found.predictions
        rows.append(scored(model, "chosen by nested CV", p_NC, models["ensemble"], labels, found.chosen))
    return rows


def scored(
    model: str, method: str, p_NC: Array, base_NC: Array, labels: Array, chosen: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Log loss, its paired change from `base`, and the calibration error with its bias."""
    error = calibration_error([p_NC], labels, BOOTSTRAP)
    change = asdict(difference([p_NC], [base_NC], labels, BOOTSTRAP))
    row = {
        "model": model,
        "method": method,
        "rows": len(labels),
        "log_loss": round(log_loss(p_NC, labels), 6),
        "change": {key: round(value, 6) for key, value in change.items()},
        "ece": round(error.value, 5),
        "ece_when_calibrated": round(error.when_calibrated, 5),
    }
    return row | ({"chosen": {name: chosen.count(name) for name in sorted(set(chosen))}} if chosen else {})


def markdown(rows: list[dict[str, Any]]) -> list[str]:
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        base = "the given ensemble" if "+" in model else "raw"
        lines += [
            f"\n**{model}**, {next(row['rows'] for row in rows if row['model'] == model):,} rows\n",
            f"| method | log loss | change from {base} (95 %) | ECE | ECE if calibrated | CPU s a fit |",
            "|---|---|---|---|---|---|",
        ]
        for row in (row for row in rows if row["model"] == model):
            change = "{value:+.5f} ({low:+.5f} to {high:+.5f})".format(**row["change"])
            chosen = ", ".join(f"{name} {count}x" for name, count in row.get("chosen", {}).items())
            method = row["method"] + (f": {chosen}" if chosen else "")
            lines.append(
                f"| {method} | {row['log_loss']:.5f} | {'' if row['method'] == 'raw' else change} "
                f"| {row['ece']:.4f} | {row['ece_when_calibrated']:.4f} | {row.get('cpu_seconds_per_fit', '')} |"
            )
    return lines


def page(table: str, facts: Mapping[str, Any]) -> str:
    about = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    return PAGE.format(table=table, about=about, folds=FOLDS)


PAGE = """# Calibrators and blends on real out-of-fold probabilities

    python benchmarks/calibration.py DATA --write

{about}

Votes of the LMSYS competition with out-of-fold probabilities of a fine-tuned LLM (14,370 rows) and of two
weak models with their ensemble (57,477 rows). Log loss of {folds}-fold cross-validation: each row is
predicted by a calibrator or blend fitted without its fold. "Chosen by nested CV" picks one in each fold by
cross-validation on the other folds, so its figure includes the price of choosing. Intervals are paired
bootstraps over rows (1,000 resamples). ECE: 15 bins of equal counts, most probable class; "ECE if calibrated"
is what these probabilities would score were they perfectly calibrated.
{table}

Caveats: the files hold no prompts, so folds are by row and not by prompt; with one to twenty-one parameters on
thousands of rows that matters little. Vector and matrix scaling treat probabilities below 1e-4 as 1e-4, a floor
set after four zeros among the embedding's predictions were seen to spoil its matrix scaling on these very rows
(1.0662 without the floor). Machine time was shared with other work, so times are of the processor.
"""


if __name__ == "__main__":
    main()

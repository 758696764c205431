"""Calibration on few votes: what is lost beside the truth, without priors and with them. By simulation.

    python benchmarks/few_votes.py [--small] [--worlds N] [--write]

A world is a few votes to fit on; what was fitted is scored by its expected log loss on thousands of other prompts, whose
true probabilities are known. Prints tables, then one line of JSON; --write keeps both under benchmarks/results.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.optimize import minimize_scalar
from simulation import Arm, Row, run
from sklearn.base import BaseEstimator, clone

from tiebreak.stats.blend import LinearBlend, LogBlend, MatrixBlend
from tiebreak.stats.calibration import MatrixScaling, TemperatureScaling, VectorScaling, softmax
from tiebreak.stats.metrics import Array, log_loss, targets
from tiebreak.stats.nested_cv import Estimator

RESULT = Path(__file__).parent / "results" / "few_votes-cpu-202611"
VOTES = (10, 22, 50, 100, 300, 1000)
TEMPERATURES = (0.5, 0.7, 0.85, 1.0, 1.2, 1.5, 2.0, 3.0)
"""What models are off by: evenly spread over their logarithm, more or less."""

LEVEL_C = np.log([0.35, 0.35, 0.30])
SPREADS_C = (np.array([0.8, 0.8, 0.5]), np.array([1.8, 1.8, 1.2]))
"""Standard deviations of a prompt's logits: the truth has a log loss of 0.96, or 0.69."""

TIES = ((0.5, 1.0), (-0.4, 0.7))
"""What the tie's logit is off by beside the temperature: an addend and a factor."""

NOISES = {"as good": (1.0, 1.0), "worse": (0.8, 1.6), "useless": (0.5, 4.0)}
"""Of the logits of judge and baseline, which are calibrated, by what the baseline is."""

PROMPTS = 4000
Population = tuple[Array, Array]
"""Predictions for all prompts, (n, 3) or (n, models, 3), and their true probabilities (n, 3)."""


class Unchanged(BaseEstimator):
    """The first model as it came."""

    def fit(self, x, labels):
        return self

    def predict_proba(self, x):
        return x if x.ndim == 2 else x[:, 0]


class Gaussian(TemperatureScaling):
    """A temperature with a Gaussian prior on its logarithm, of mean 0."""

    def __init__(self, deviation: float) -> None:
        self.deviation = deviation

    def fit(self, probabilities, labels):
        log_NC, y_NC = np.log(probabilities), targets(labels)

        def loss(log_temperature: float) -> float:
            scaled_NC = softmax(log_NC / np.exp(log_temperature))
            return len(y_NC) * log_loss(scaled_NC, y_NC) + (log_temperature / self.deviation) ** 2 / 2

        self.temperature_ = np.exp(minimize_scalar(loss, bounds=(-4.6, 4.6), method="bounded").x)
        return self


SCALINGS: Mapping[str, Estimator] = {
    "as it came": Unchanged(),
    "no prior": TemperatureScaling(prior=0.0),
    "a quarter of the prior": TemperatureScaling(prior=0.25),
    "prior": TemperatureScaling(),
    "four times the prior": TemperatureScaling(prior=4.0),
    "Gaussian, 0.35": Gaussian(0.35),
    "Gaussian, 0.5": Gaussian(0.5),
    "Gaussian, 0.7": Gaussian(0.7),
}
CALIBRATORS: Mapping[str, Estimator] = {
    "as it came": Unchanged(),
    "temperature": TemperatureScaling(),
    "vector, no prior": VectorScaling(prior=0.0),
    "vector": VectorScaling(),
    "matrix, no prior": MatrixScaling(prior=0.0),
    "matrix": MatrixScaling(),
}
BLENDS: Mapping[str, Estimator] = {
    "judge alone": Unchanged(),
    "linear": LinearBlend(),
    "log, no prior": LogBlend(prior=0.0),
    "log": LogBlend(),
    "matrix, no prior": MatrixBlend(prior=0.0),
    "matrix": MatrixBlend(),
}


def excess(
    estimators: Mapping[str, Estimator], populations: Sequence[Population], votes: int, worlds: int
) -> dict[str, float]:
    """Thousandths of log loss beside the truth's, the mean over worlds and populations."""
    random = np.random.default_rng(1)
    lost: dict[str, list[float]] = {name: [] for name in estimators}
    for x, true_NC in populations:
        least = log_loss(true_NC, true_NC)
        for _ in range(worlds):
            drawn_N = random.choice(len(x), votes, replace=False)
            below_NC = random.random(votes)[:, None] > true_NC[drawn_N].cumsum(axis=1)[:, :2]
            for name, estimator in estimators.items():
                fitted = clone(estimator).fit(x[drawn_N], below_NC.sum(axis=1))
                lost[name].append(1000 * (log_loss(fitted.predict_proba(x), true_NC) - least))
    return {name: float(np.mean(values)) for name, values in lost.items()}


def logits(spread_C: Array) -> Array:
    return LEVEL_C + spread_C * np.random.default_rng(2).normal(size=(PROMPTS, 3))


def temperature(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Models whose only fault is a temperature."""
    populations = [
        (softmax(power * z_NC), softmax(z_NC)) for z_NC in map(logits, SPREADS_C) for power in TEMPERATURES
    ]
    for name, lost in excess(SCALINGS, populations, votes * prompts, worlds).items():
        yield {"figure": name, "excess": lost}


def calibrators(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """Models whose ties are right, and whose ties are off as well."""
    for title, faults in (("ties right", ((0.0, 1.0),)), ("ties off", TIES)):
        populations = []
        for z_NC in map(logits, SPREADS_C):
            for power in TEMPERATURES[1::2]:
                for addend, factor in faults:
                    tie_N = power * factor * z_NC[:, 2:] + addend
                    said_NC = softmax(np.concatenate([power * z_NC[:, :2], tie_N], axis=1))
                    populations.append((said_NC, softmax(z_NC)))
        found = excess(CALIBRATORS, populations, votes * prompts, max(2, worlds // (2 * len(faults))))
        for name, lost in found.items():
            yield {"figure": f"{title}: {name}", "excess": lost}


def blends(worlds: int, prompts: int, votes: int) -> Iterator[Row]:
    """A judge and a baseline, both calibrated: what is lost beside the judge alone."""
    for title, noises in NOISES.items():
        random = np.random.default_rng(3)
        z_NC = logits(np.array([1.2, 1.2, 0.8]))
        predictions = [softmax(z_NC + noise * random.normal(size=z_NC.shape)) for noise in noises]
        scaled = [TemperatureScaling(prior=0.0).fit(p, softmax(z_NC)).predict_proba(p) for p in predictions]
        found = excess(BLENDS, [(np.stack(scaled, axis=1), softmax(z_NC))], votes * prompts, worlds)
        for name, lost in found.items():
            if name != "judge alone":
                yield {"figure": f"baseline {title}: {name}", "excess": lost - found["judge alone"]}


ARMS: tuple[Arm, ...] = (temperature, calibrators, blends)


def main() -> None:
    settings = [(votes, 1) for votes in VOTES]
    run(__doc__, RESULT, ARMS, settings, worlds=100, tiny=((22, 1), 4), page=page, unit="excess")


def page(table: str, facts: Row) -> str:
    return f"""# Calibration on few votes

Measured in November 2026 on {facts["processor"]}; Python {facts["python"]}, NumPy {facts["numpy"]}, SciPy {facts["scipy"]},
tiebreak {facts["tiebreak"]}; {facts["seconds"]} s with other work beside it. Made by

    python benchmarks/few_votes.py --worlds {facts["worlds"]} --write

Log loss on fresh votes above that of the truth, in thousandths; columns are the votes that were fitted on, one a prompt. A
prompt's true logits are normal, of two spreads (the truth's log loss is 0.96 or 0.69). Expected over {PROMPTS:,} prompts, so
chance is only in which votes were drawn: the mean of {facts["worlds"]} draws of each model.

- temperature: models whose logits were multiplied by {", ".join(map(str, TEMPERATURES))}, the mean of all. "Prior" is what
  ships: a gamma distribution of 1 / T. Gaussian ones are of log T, by their standard deviation.
- calibrators: logits multiplied by {", ".join(map(str, TEMPERATURES[1::2]))}; where ties are off, the tie's logit is also
  {" or ".join(f"{factor} times as large, {addend:+}" for addend, factor in TIES)}. "As it came" and "temperature" cannot mend that.
- blends: of a judge and a baseline that are both calibrated and see the truth through noise of their own; the change from
  the judge alone, so what is below 0 is a gain.

{table}

## What it shows

Without a prior, a temperature of 10 or 22 votes is off by so much that models are better left alone unless they are badly
off; vector and matrix scaling, and blends, are of no use below some hundred votes. Priors take most of that away and cost
nothing that could be seen at 1,000. Four times as much prior holds back those that are off by a factor of 2 or 3. At the
same width about T = 1 a gamma distribution of 1 / T loses less than a Gaussian of log T: it is wary of overconfidence.

The log blend with a baseline as good as the judge is where the prior costs, up to 0.009 at 50 votes; a baseline that is worse
or useless is what it guards against. The linear blend has one parameter between 0 and 1 and has no prior.

## Caveats

Logits are normal, and every vote is on a prompt of its own. Votes that depend on each other count for less than they are.
"""


if __name__ == "__main__":
    main()

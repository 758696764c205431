"""Figures of other packages on made-up votes, with which tests/stats compare: ppi-python, evalica, arena-rank, alpaca-eval.

    pip install ppi-python==0.2.3 evalica==0.4.2 jax optax pandas
    pip install --no-deps arena-rank==0.1.1 alpaca-eval==0.6.6
    python benchmarks/compare_peers.py

in an environment of their own: they need other versions than tiebreak. One JSON line; `votes` are the data, which need numpy alone.
"""

import json

import numpy as np

MODELS = 4


def votes() -> dict[str, np.ndarray]:
    """Rows on all pairs of models, each pair as often, without ties; the first quarter of the rows has votes too.

    model: (N, 2). p: a judge's P(first wins). won: 1 where the first wins. style: (N, 2) differences. length: (N, 2).
    """
    random = np.random.default_rng(19)
    a, b = np.triu_indices(MODELS, 1)
    model = np.tile(np.stack([a, b], axis=1), (400, 1))
    style = random.normal(size=(len(model), 2))
    true = np.array([0.7, 0.2, -0.1, -0.8])
    gap = true[model[:, 0]] - true[model[:, 1]] + style @ [0.5, -0.2] + random.normal(size=len(model))
    length = random.integers(100, 2000, size=(len(model), 2)).astype(float)
    won = (random.random(len(model)) < 1 / (1 + np.exp(-gap))).astype(float)
    return {
        "model": model,
        "p": 1 / (1 + np.exp(-0.8 * gap - 0.3)),
        "won": won,
        "style": style,
        "length": length,
    }


def contrasts(model: np.ndarray) -> np.ndarray:
    """The design (N, MODELS - 1) of Bradley-Terry strengths relative to the last model's."""
    rows = np.arange(len(model))
    x = np.zeros((len(model), MODELS))
    x[rows, model[:, 0]], x[rows, model[:, 1]] = 1, -1
    return x[:, :-1]


def of_ppi(data: dict[str, np.ndarray], weight: float) -> dict[str, object]:
    """Means and a logistic regression, at a given weight of the judge and at the tuned one."""
    from ppi_py import ppi_logistic_pointestimate, ppi_mean_ci, ppi_mean_pointestimate

    n = len(data["won"]) // 4
    y, f, rest = data["won"][:n], data["p"][:n], data["p"][n:]
    repeated = np.tile(f, 3)
    x, x_rest = contrasts(data["model"][:n]), contrasts(data["model"][n:])
    return {
        "mean": float(np.squeeze(ppi_mean_pointestimate(y, f, rest, lam=weight))),
        "mean_interval": np.ravel(ppi_mean_ci(y, f, rest, alpha=0.05, lam=weight)).tolist(),
        # where the predictions are alike with and without votes, their pooled variance is that of each
        "tuned_mean": float(np.squeeze(ppi_mean_pointestimate(y, f, repeated))),
        "tuned_mean_interval": np.ravel(ppi_mean_ci(y, f, repeated, alpha=0.05)).tolist(),
        "strengths": ppi_logistic_pointestimate(
            x, y, f, x_rest, rest, lam=weight, optimizer_options={"ftol": 1e-15, "gtol": 1e-12}
        ).tolist(),
    }


def of_evalica(data: dict[str, np.ndarray]) -> list[float]:
    import evalica

    winners = [evalica.Winner.X if won else evalica.Winner.Y for won in data["won"]]
    x, y = (side.tolist() for side in data["model"].T)
    scores = evalica.bradley_terry(x, y, winners, tolerance=1e-14, limit=100_000).scores.sort_index()
    logs = np.log(scores.to_numpy())
    return (logs - logs.mean()).tolist()


def of_arena_rank(data: dict[str, np.ndarray]) -> dict[str, list[float]]:
    import jax.numpy as jnp
    from arena_rank.models.contextual_bradley_terry import ContextualBradleyTerry
    from arena_rank.utils.data_utils import ContextualPairDataset

    rows = len(data["won"])
    given = ContextualPairDataset(
        list(range(MODELS)),
        jnp.array(data["model"]),
        jnp.array(data["won"]),
        jnp.array(data["style"]),
        jnp.ones(rows),
    )
    model = ContextualBradleyTerry(MODELS, 2, reg=0.0, hessian_reg=1e-12, ftol=1e-15, gtol=1e-12)
    found = model.compute_ratings_and_cis(given)
    ratings = np.array(found["ratings"])
    return {
        "elo": (ratings - ratings.mean()).tolist(),
        "coefficients": np.array(found["coeffs"]).tolist(),
    }


def of_alpaca_eval(data: dict[str, np.ndarray]) -> float:
    """Its own fit, without the instructions' difficulty and without a penalty to speak of, predicted at equal length."""
    import pandas as pd
    from alpaca_eval.metrics import glm_winrate

    difference = data["length"][:, 0] - data["length"][:, 1]
    frame = pd.DataFrame({"std_delta_len": difference / pd.Series(difference).std(), "preference": data["p"]})
    train, test = glm_winrate.make_dmatrix_for_model(
        frame, pd.DataFrame({"std_delta_len": np.zeros(len(frame))}), formula="np.tanh(std_delta_len)"
    )
    fitted = glm_winrate.fit_LogisticRegressionCV(
        train, "preference", n_splits=0, C=1e9, tol=1e-12, max_iter=100_000
    )
    return float(fitted.predict_proba(test)[:, 1].mean())


def main() -> None:
    data = votes()
    found = {"ppi": of_ppi(data, 0.7), "evalica": of_evalica(data)}
    found |= {"arena_rank": of_arena_rank(data), "alpaca_eval": of_alpaca_eval(data)}
    print(json.dumps(found))


if __name__ == "__main__":
    main()

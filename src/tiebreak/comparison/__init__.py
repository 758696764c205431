"""Which model is better: win rates, strengths and ranks by a judge, by people's votes, or by both together."""

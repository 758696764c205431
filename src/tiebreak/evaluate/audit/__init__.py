"""Audit of a judge by people's votes: agreement, calibration, bias, self-preference, disagreements, votes unlike the training's."""

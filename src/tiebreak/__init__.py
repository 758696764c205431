"""Learn from votes which of two answers people prefer: calibrated P(A), P(B), P(tie)."""

__version__ = "0.1.0"

"""Serving: a judge behind HTTP, in shapes that clients of other servers already speak."""

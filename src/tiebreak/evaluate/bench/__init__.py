"""Published benchmarks of judges: their files, and their own scoring rules."""

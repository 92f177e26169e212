"""Benchmarks of speed against plain baselines: `python -m benchmarks NAME`."""

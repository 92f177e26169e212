"""Speed, as ratios measured in one run against plain baselines: `python -m benchmarks NAME`."""

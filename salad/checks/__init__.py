"""Check a data set for leaks, duplicates and doubtful labels, and measure baselines without a model."""

"""Evaluate anomaly scores: AUCs, rates, subgroups, calibration, localisation, and comparison of runs."""

"""Benchmark `gpu`: facts, correctness, speed and full-length trainings on a machine with an NVIDIA GPU."""

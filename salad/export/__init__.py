"""Checkpoints as files for other programs."""

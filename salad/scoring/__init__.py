"""Scores of images: kNN, prototypes, patch memories, and their evaluation."""

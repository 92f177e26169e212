"""Explain scores: heatmaps, nearest normal images, and pictures of both."""

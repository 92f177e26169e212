"""Scoring of images with a checkpoint: test images, new images and validation."""

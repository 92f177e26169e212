"""Radiograph files to grey pixels, and grey pixels to what a network sees."""

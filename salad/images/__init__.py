"""Read radiograph files to grey pixels, and preprocess these for the network."""

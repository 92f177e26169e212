"""The program beside anomalib, PyOD and scikit-learn: the same images, the same frozen weights, one thread."""

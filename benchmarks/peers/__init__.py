"""The program beside anomalib, imgad, PyOD and scikit-learn: the same images, the same frozen weights, one thread."""

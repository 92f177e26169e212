"""What is wrong with a data set, and what it tells without a model."""

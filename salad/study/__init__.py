"""Studies: several methods, each trained and scored with several seeds and on several folds, and compared."""

"""Several processes that train or score together."""

"""Training: data, trainer, state, validation and guards."""

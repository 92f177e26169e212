"""Train or score with several processes together."""

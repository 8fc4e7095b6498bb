"""Training: turns a recipe and a manifest into a model folder."""

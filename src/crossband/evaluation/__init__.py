"""Evaluation of models, and of files from other tools, against true pairs and baselines."""

"""Callbacks of the Trainer: checkpoints, progress, health, memory, signals."""

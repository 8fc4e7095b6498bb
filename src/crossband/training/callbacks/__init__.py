"""Callbacks of the Trainer: checkpoints, progress, health checks, memory, signals."""

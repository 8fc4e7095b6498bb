"""Discriminators: networks that distinguish targets from outputs, for adversarial training."""

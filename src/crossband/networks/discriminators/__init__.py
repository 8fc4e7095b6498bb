"""Discriminators: networks that tell targets from outputs, for adversarial training."""

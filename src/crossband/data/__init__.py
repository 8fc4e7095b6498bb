"""Data: manifests, splits, pairs, sampling, augmentation.

This file imports nothing, so that `crossband.data.manifest` does not wait for Lightning.
"""

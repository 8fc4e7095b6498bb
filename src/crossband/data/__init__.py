"""Data: the manifest, pairs, sampling, augmentation.

Nothing is imported here: `crossband.data.manifest` must not wait for Lightning.
"""

"""Shared definitions: sensors, indices, signatures, the registry, devices, tensor files."""

"""Tables and names that every package shares: sensors, indices, signatures, the registry."""

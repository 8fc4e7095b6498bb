"""Networks: generators, discriminators, samplers, and shared layers.

Each file holds one family of networks; `core.registry` finds the classes by name.
"""

from crossband.networks.base import Discriminator, Generator, parameter_count

__all__ = ["Discriminator", "Generator", "parameter_count"]

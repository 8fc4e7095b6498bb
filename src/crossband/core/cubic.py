"""The kernel of cubic convolution."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cubic_weights(distance: Array) -> Array:
    """Return the weights of cubic convolution at distances of 0 and above, in pixels.

    With a = -0.5: Keys 1981, "Cubic convolution interpolation for digital image processing",
    eq. 15.
    """
    x = distance
    near = (1.5 * x - 2.5) * x**2 + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return np.where(x <= 1.0, near, np.where(x <= 2.0, far, 0.0))

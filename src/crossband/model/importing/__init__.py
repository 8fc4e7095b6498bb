"""Convert public checkpoints of pix2pix-like generators to model folders; `crossband import`.

Names and shapes of the tensors tell which public code wrote a file and how large its network is.
One of our networks then rebuilds it exactly, or the file is refused. The user gives what a file
does not contain: bands, units, ranges, and whether norms use the statistics of each image.
"""

from __future__ import annotations

from crossband.model.importing.checkpoint import BandSpec, Origin, import_checkpoint
from crossband.model.importing.convert import ImportOptions

__all__ = ["BandSpec", "ImportOptions", "Origin", "import_checkpoint"]

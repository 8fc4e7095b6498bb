"""Public checkpoints of pix2pix-like generators, made into model folders; `crossband import`.

The tensors' names and shapes say which public code a file is from, and how large its network is.
That plan is rebuilt with a network of our own, exactly, or the file is refused. What a file cannot
say (bands, units, ranges, whether norms measure each picture) is asked of the user.
"""

from __future__ import annotations

from crossband.model.importing.checkpoint import Origin, Side, import_checkpoint
from crossband.model.importing.plans import Wishes

__all__ = ["Origin", "Side", "Wishes", "import_checkpoint"]

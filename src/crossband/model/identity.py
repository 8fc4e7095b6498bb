"""A string that identifies a model."""

from __future__ import annotations

import hashlib
import json

import torch

from crossband.model.model import Model


def identity(model: Model) -> str:
    """Return the model's name and a hash of its weights, architecture and signature."""
    network = model.network
    digest = hashlib.blake2b(digest_size=12)
    about = [type(network).__name__, network.arguments, model.signature.to_json()]
    digest.update(json.dumps(about, sort_keys=True, default=str).encode())
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        plain = tensor.detach().cpu().contiguous().flatten()
        digest.update(memoryview(plain.view(torch.uint8).numpy()))
    return f"{model.name}, {digest.hexdigest()}"

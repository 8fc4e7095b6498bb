"""Write a model for other programs: ONNX, STAC, Deepness, the Hugging Face Hub."""

from __future__ import annotations

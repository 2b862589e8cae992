"""Codecs of float32 vectors. Those that devices speak too (fp16, bf16, 8 bits linear) stand in `protocol.tensors`."""

from .codec import Codec
from .dynamic_tree import DynamicTree

__all__ = ["Codec", "DynamicTree"]

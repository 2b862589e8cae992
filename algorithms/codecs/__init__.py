"""Codecs of float32 vectors: whole ones (`Codec`), and ones that are reduced in pieces (`UnitCodec`).

Those of whole tensors that devices speak too (fp16, bf16, 8 bits linear) stand in `protocol.tensors`.
"""

from .blocks import LinearBlocks, TreeBlocks
from .codec import Codec
from .dynamic_tree import DynamicTree
from .halves import Half, UpperHalf
from .units import U8, UnitCodec

__all__ = ["U8", "Codec", "DynamicTree", "Half", "LinearBlocks", "TreeBlocks", "UnitCodec", "UpperHalf"]

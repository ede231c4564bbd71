"""Blocks: the lines of a paper's table, as frozen values that build their torch modules.

What needs torch is imported on first use: a network is a value without it.
"""

from typing import TYPE_CHECKING

from cnnzoo.blocks.activation import ACTIVATIONS, Activation, register_activation
from cnnzoo.blocks.base import BLOCKS, Block, Shape, register_block
from cnnzoo.blocks.branch import Parallel
from cnnzoo.blocks.conv import Conv
from cnnzoo.blocks.dense import Dense, Dropout, Flatten, Logits
from cnnzoo.blocks.norm import LRN, NORMS, Norm, make_norm, register_norm
from cnnzoo.blocks.period import RBF, Pad, Subsample, TableConv, UnitBias
from cnnzoo.blocks.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool
from cnnzoo.lazy import lazy_names

if TYPE_CHECKING:
    from cnnzoo.blocks.build import BlockError, BuiltBlock, build_blocks
    from cnnzoo.blocks.modules import Branches, RBFUnits, ScaledTanh, Subsampling, TableConv2d, UnitBiases

__getattr__ = lazy_names(
    __name__,
    {
        "cnnzoo.blocks.build": ("BlockError", "BuiltBlock", "build_blocks"),
        "cnnzoo.blocks.modules": ("Branches", "RBFUnits", "ScaledTanh", "Subsampling", "TableConv2d", "UnitBiases"),
    },
)

__all__ = [
    "ACTIVATIONS",
    "BLOCKS",
    "LRN",
    "NORMS",
    "RBF",
    "Activation",
    "AdaptiveAvgPool",
    "AdaptiveMaxPool",
    "AvgPool",
    "Block",
    "BlockError",
    "Branches",
    "BuiltBlock",
    "Conv",
    "Dense",
    "Dropout",
    "Flatten",
    "Logits",
    "MaxPool",
    "Norm",
    "Pad",
    "Parallel",
    "RBFUnits",
    "ScaledTanh",
    "Shape",
    "Subsample",
    "Subsampling",
    "TableConv",
    "TableConv2d",
    "UnitBias",
    "UnitBiases",
    "build_blocks",
    "make_norm",
    "register_activation",
    "register_block",
    "register_norm",
]

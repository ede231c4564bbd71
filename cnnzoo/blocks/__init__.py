"""Blocks: the lines of a paper's table, as frozen values that build their torch modules."""

from cnnzoo.blocks.activation import ACTIVATIONS, Activation, ScaledTanh, register_activation
from cnnzoo.blocks.base import BLOCKS, Block, Shape, register_block
from cnnzoo.blocks.branch import Parallel
from cnnzoo.blocks.branches import Branches
from cnnzoo.blocks.build import BlockError, BuiltBlock, build_blocks
from cnnzoo.blocks.conv import Conv
from cnnzoo.blocks.dense import Dense, Dropout, Flatten, Logits
from cnnzoo.blocks.norm import LRN, NORMS, Norm, make_norm, register_norm
from cnnzoo.blocks.period import RBF, RBFUnits, Subsample, Subsampling, TableConv, TableConv2d
from cnnzoo.blocks.pool import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool

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
    "Parallel",
    "RBFUnits",
    "ScaledTanh",
    "Shape",
    "Subsample",
    "Subsampling",
    "TableConv",
    "TableConv2d",
    "build_blocks",
    "make_norm",
    "register_activation",
    "register_block",
    "register_norm",
]

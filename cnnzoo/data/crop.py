"""Windows of images, a different one for each image of a batch."""

from __future__ import annotations

import torch


def gather_windows(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Returns a window of each image.

    Args:
        images: (N, C, H, W).
        rows: int64 (N, h): the rows of each window.
        columns: int64 (N, w): the columns of each window.

    Returns:
        (N, C, h, w).
    """
    n, channels = (torch.arange(size, device=images.device) for size in images.shape[:2])
    return images[n[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None, :]]

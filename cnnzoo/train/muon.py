"""The optimizer Muon."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial, whose slope at 0 is as large as possible
_STEPS = 5  # of the Newton-Schulz iteration


class Muon(torch.optim.Optimizer):
    """Muon for the weights of hidden layers, AdamW for all other parameters (Jordan et al. 2024).

    The update of a hidden weight is its Nesterov momentum, made nearly orthogonal by a Newton-Schulz iteration; the
    kernels of a convolution, (out, in, height, width), are one matrix (out, in * height * width). As in the reference,
    the first convolution, the last layer, biases and normalizations are updated by AdamW. One learning rate and one
    weight decay serve both: an orthogonal update is scaled by 0.2 * sqrt(max(rows, columns)), which gives it the root
    mean square of updates of AdamW (Liu et al. 2025, "Muon is Scalable for LLM Training"); the reference scales by
    sqrt(max(1, rows / columns)) and has two learning rates.

    Args:
        groups: Parameter groups, each with ``is_hidden``: whether its parameters are weights of hidden layers.
        lr: The learning rate.
        weight_decay: The decoupled weight decay.
        momentum: The momentum of hidden weights.
        betas: The betas of AdamW.
        eps: The eps of AdamW.

    References:
        Jordan, Jin, Boza, You, Cesista, Newhouse, Bernstein 2024: https://kellerjordan.github.io/posts/muon/
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": tuple(betas), "eps": eps}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates the parameters that have a gradient.

        Args:
            closure: Computes the loss again, and returns it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            if group["is_hidden"]:
                self._update_hidden(parameters, group)
            else:
                self._update_others(parameters, group)
        return loss

    def _update_hidden(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Subtracts the orthogonal momentum."""
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            momentum = state["momentum_buffer"].lerp_(gradient, 1 - group["momentum"])
            update = orthogonalize(gradient.lerp(momentum, group["momentum"]).flatten(1))
            scale = 0.2 * math.sqrt(max(update.shape))
            parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * scale)

    def _update_others(self, parameters: list[torch.Tensor], group: dict[str, Any]) -> None:
        """Subtracts the update of Adam."""
        (beta1, beta2), eps = group["betas"], group["eps"]
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state |= {name: torch.zeros_like(parameter) for name in ("exp_avg", "exp_avg_sq")} | {"step": 0}
            state["step"] += 1
            average = state["exp_avg"].lerp_(gradient, 1 - beta1)
            square = state["exp_avg_sq"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            root = (square / (1 - beta2 ** state["step"])).sqrt_().add_(eps)
            parameter.addcdiv_(average, root, value=-group["lr"] / (1 - beta1 ** state["step"]))


def orthogonalize(matrix: torch.Tensor) -> torch.Tensor:
    """Returns nearly the closest semi-orthogonal matrix: the same singular vectors, singular values from 0.7 to 1.2.

    The Newton-Schulz iteration runs in bfloat16 on a GPU, as in the reference, and in float32 elsewhere.

    Args:
        matrix: (rows, columns).
    """
    a, b, c = _COEFFICIENTS
    x: torch.Tensor = matrix.to(torch.bfloat16 if matrix.is_cuda else torch.float32)
    is_tall = len(x) > x.shape[1]
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if is_tall else x).to(matrix.dtype)

"""MuonAdamW: Muon (orthogonalised momentum) for weight matrices, AdamW for other parameters.

Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks". PyTorch's Muon takes
only two-dimensional parameters; here the weights of a convolution are the matrix [out, in x k x k],
and one optimiser serves a whole network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices with both sides of at least `smallest`, AdamW for other parameters.

    Args:
        params: parameters or groups.
        lr: learning rate of Muon; each step changes a matrix by about this spectral norm.
        adam_lr: learning rate of AdamW.
        momentum: Nesterov momentum of Muon.
        betas: betas of AdamW.
        eps: epsilon of AdamW.
        weight_decay: decoupled weight decay, multiplied by the respective learning rate.
        smallest: matrices with a shorter side are left to AdamW.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.02,
        adam_lr: float = 2e-3,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        smallest: int = 16,
    ) -> None:
        if lr <= 0 or adam_lr <= 0:
            raise ValueError("lr and adam_lr must be above 0")
        super().__init__(
            params,
            {
                "lr": lr,
                # A ratio, so that a schedule of `lr` changes both learning rates.
                "adam_ratio": adam_lr / lr,
                "momentum": momentum,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "smallest": smallest,
            },
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Take one step."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                matrix = p.ndim >= 2 and min(len(p), p.numel() // len(p)) >= group["smallest"]
                (self._orthogonal if matrix else self._adam)(p, group)
        return loss

    def _orthogonal(self, p: Tensor, group: dict[str, Any]) -> None:
        state, gradient = self.state[p], p.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(p)
        mean = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(mean, group["momentum"]).reshape(len(p), -1)
        rows, columns = update.shape
        update = orthogonal(update) * max(1.0, rows / columns) ** 0.5
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(update.reshape(p.shape), alpha=-group["lr"])

    def _adam(self, p: Tensor, group: dict[str, Any]) -> None:
        state, (b1, b2) = self.state[p], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"] += 1
        count, lr = float(state["step"]), group["lr"] * group["adam_ratio"]
        state["mean"].lerp_(p.grad, 1 - b1)
        state["square"].mul_(b2).addcmul_(p.grad, p.grad, value=1 - b2)
        spread = (state["square"] / (1 - b2**count)).sqrt_().add_(group["eps"])
        p.mul_(1 - lr * group["weight_decay"])
        p.addcdiv_(state["mean"], spread, value=-lr / (1 - b1**count))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return approximately U V^T, where the singular value decomposition of the matrix is U S V^T.

    After five Newton-Schulz steps the singular values lie between about 0.7 and 1.2. Computed in
    bfloat16 on a GPU, as in the original; on a CPU such small products are faster in float32.
    """
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    x = x.bfloat16() if x.is_cuda else x.contiguous()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = (x.T if tall else x).to(matrix.dtype)
    return result

"""DeMo for a training loop of one's own under plain `torch.distributed`.

    optimizer = DeMo(model.parameters(), lr=1e-3)      # no DistributedDataParallel: gradients stay where they are
    loss.backward(); optimizer.step()                  # exchanges a fiftieth of a byte or so for each parameter

The definition, and in what it differs from the published code on purpose, is that of `demo`; kernels, payload and
rules are the same. Every rank must begin with the same parameters and call `step` as often as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch.optim.optimizer import Optimizer, ParamsT

from .clipping import global_norm
from .demo import DeMoOptions
from .errors import BadGradient, BadPayload
from .frequency_momentum import FrequencyMomentum


class DeMo(Optimizer):
    """Decoupled momentum (Peng, Quesnelle, Kingma 2024, arXiv:2411.19870).

    Args:
        params: parameters or groups of them; a group may have options of its own, but on all ranks alike.
        lr: the size of every step in every coordinate: expect a tenth of what Adam takes.
        compression_decay: decay of the momentum.
        compression_topk: coefficients sent of each whole chunk.
        compression_chunk: side of a chunk, at most 64.
        weight_decay: decoupled.
        process_group: None is the default group; without `torch.distributed` there is one rank.
        value_bits: 32 (float32), 8 (linear, a scale for each chunk) or 1 (signs).
        combine: normclip, reject, vote, or senders, which is the paper's.
    Raises: BadOption for options out of bounds.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 1e-3,
        compression_decay: float = 0.999,
        compression_topk: int = 32,
        compression_chunk: int = 64,
        weight_decay: float = 0.0,
        process_group: dist.ProcessGroup | None = None,
        *,
        value_bits: int = 32,
        combine: str = "normclip",
    ) -> None:
        self._momenta: list[FrequencyMomentum] = []
        self._process_group = process_group
        self.data_transmit = 0
        """Bytes of this rank's contribution to the last step."""
        self.data_receive = 0
        """Bytes of all the others'."""
        defaults = {
            "lr": lr,
            "compression_decay": compression_decay,
            "compression_topk": compression_topk,
            "compression_chunk": compression_chunk,
            "weight_decay": weight_decay,
            "value_bits": value_bits,
            "combine": combine,
        }
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As in every torch optimizer; on all ranks alike, between the same steps."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        options = _options(group)
        momentum = FrequencyMomentum(
            [tuple(parameter.shape) for parameter in group["params"]],
            size=options.tile,
            k=options.k,
            value_bits=options.value_bits,
        )
        self._momenta.append(momentum)
        for parameter, part in zip(group["params"], momentum.parts(), strict=True):
            self.state[parameter]["residual"] = part

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over groups and residuals. Raises ValueError if they are of another model."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        parts = [part for momentum in self._momenta for part in momentum.parts()]
        for index, parameter, part in zip(saved, parameters, parts, strict=True):
            # torch has converted its copy to the parameter's type and device, which may hold less.
            residual = state_dict["state"][index]["residual"]
            if residual.shape != part.shape:
                raise ValueError(f"residual of {residual.numel()} elements for a parameter of {part.numel()}")
            part.copy_(residual)
            self.state[parameter]["residual"] = part

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One exchange and one update.

        Raises: BadGradient on every rank, before anything is changed on any, if a gradient somewhere is not finite.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gathered = self._gather(self._payloads())
        for index, (group, momentum) in enumerate(zip(self.param_groups, self._momenta, strict=True)):
            self._update(group, momentum, [payloads[index] for payloads in gathered])
        return loss

    def _payloads(self) -> list[bytes]:
        """Of each group; empty ones if a gradient is not finite."""
        gradients = [[parameter.grad for parameter in group["params"]] for group in self.param_groups]
        try:
            for of_group in gradients:
                global_norm(of_group)
        except BadGradient:
            return [b"" for _ in self._momenta]
        for group, momentum, of_group in zip(self.param_groups, self._momenta, gradients, strict=True):
            for tensor, gradient in enumerate(of_group):
                momentum.absorb(tensor, gradient, decay=group["compression_decay"], rate=float(group["lr"]))
        return [momentum.encode() for momentum in self._momenta]

    def _update(self, group: dict[str, Any], momentum: FrequencyMomentum, payloads: Sequence[bytes]) -> None:
        contributions = [momentum.format.decode(payload) for payload in payloads]
        combination, _ = momentum.combine(contributions, group["combine"])
        for tensor, parameter in enumerate(group["params"]):
            if parameter.requires_grad:
                momentum.descend(
                    tensor, parameter, combination, lr=float(group["lr"]), weight_decay=group["weight_decay"]
                )
        momentum.retire(contributions[self._rank()])

    def _gather(self, payloads: list[bytes]) -> list[list[bytes]]:
        """Every rank's payloads, in the order of ranks."""
        if not dist.is_initialized():
            gathered = [payloads]
        else:
            gathered = _all_gather(payloads, [m.format.bytes_max() for m in self._momenta], self._process_group)
        bad = [rank for rank, theirs in enumerate(gathered) if theirs and not all(theirs)]
        if bad:
            raise BadGradient(f"gradients of ranks {bad} hold NaN, infinity or values above 2^100: lower lr or clip")
        self.data_transmit = sum(map(len, payloads))
        self.data_receive = sum(len(payload) for theirs in gathered for payload in theirs) - self.data_transmit
        return gathered

    def _rank(self) -> int:
        return dist.get_rank(self._process_group) if dist.is_initialized() else 0


def _options(group: dict[str, Any]) -> DeMoOptions:
    """A group's options, checked as those of the method are."""
    return DeMoOptions(
        k=group["compression_topk"],
        tile=group["compression_chunk"],
        beta=group["compression_decay"],
        value_bits=group["value_bits"],
        combine=group["combine"],
        weight_decay=group["weight_decay"],
    )


def _all_gather(
    payloads: Sequence[bytes], bytes_max: Sequence[int], process_group: dist.ProcessGroup | None
) -> list[list[bytes]]:
    """Payloads of every rank; first their lengths, then all padded to the longest rank's."""
    device = torch.device("cuda" if "nccl" in str(dist.get_backend(process_group)) else "cpu")
    n_ranks = dist.get_world_size(process_group)
    lengths = torch.tensor([len(payload) for payload in payloads], dtype=torch.int64, device=device)
    all_lengths = [torch.zeros_like(lengths) for _ in range(n_ranks)]
    dist.all_gather(all_lengths, lengths, group=process_group)
    by_rank = [tensor.tolist() for tensor in all_lengths]
    if any(not 0 <= n <= n_max for theirs in by_rank for n, n_max in zip(theirs, bytes_max, strict=True)):
        raise BadPayload(f"ranks announce payloads of {by_rank} bytes, at most {list(bytes_max)} are possible")
    padded = np.zeros(max(sum(theirs) for theirs in by_rank), np.uint8)
    padded[: int(lengths.sum())] = np.frombuffer(b"".join(payloads), np.uint8)
    mine = torch.from_numpy(padded).to(device)
    received = [torch.empty_like(mine) for _ in range(n_ranks)]
    dist.all_gather(received, mine, group=process_group)
    return [_cut(tensor.cpu().numpy().tobytes(), theirs) for tensor, theirs in zip(received, by_rank, strict=True)]


def _cut(data: bytes, lengths: Sequence[int]) -> list[bytes]:
    ends = np.cumsum(lengths).tolist()
    return [data[end - length : end] for end, length in zip(ends, lengths, strict=True)]

"""The device's measured peak: the best rate of plain matrix products of a number format, in the same run.

What a model's rate is a share of. The best single product of several sizes counts, not their median: what else the
machine does slows a product down, never up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqassay.measure.clock import DeviceClock
from seqassay.models.attention import PackedLayout
from seqassay.models.cores import run_on_cores
from seqassay.models.linear import linear

# Square products; larger ones are no faster on the processors seen. On a busy machine large ones never run undisturbed,
# and small ones, some of which do, reach nearly the same rate: hence both.
_CPU_SIZES = (256, 512, 1024, 2048)
_CUDA_SIZES = (4096, 8192)
_ENGINE_SHAPES = ((256, 640), (1024, 1280))  # rows of a micro-batch and hidden width of the engine's own product
# Every product is timed some times, more often while that takes no time, less often when it takes long.
_FEWEST, _MOST = 5, 200
_ENOUGH_S, _TOO_LONG_S = 0.1, 2.0
METHOD = (
    "best single rate of: square products (torch.mm) by all threads; on the CPU also the engine's own linear layer, a "
    "micro-batch a core; measured before and after the runs"
)


@dataclass(slots=True)
class Peak:
    """Products of one number format on one device, timed whenever `measure` is called."""

    device: torch.device
    dtype: torch.dtype
    seconds: dict[str, list[float]] = field(default_factory=dict)
    flop: dict[str, int] = field(default_factory=dict)

    @torch.inference_mode()
    def measure(self, clock: DeviceClock) -> None:
        """Time every product some times, after one run that isn't counted."""
        for name, (flop, run) in self._products().items():
            run()
            self.flop[name] = flop
            seconds = [clock.time_s(run)]
            while not _enough(seconds):
                seconds.append(clock.time_s(run))
            self.seconds.setdefault(name, []).extend(seconds)

    @property
    def flop_per_s(self) -> float:
        """The best rate so far."""
        return max(self.flop[name] / min(times) for name, times in self.seconds.items())

    def as_record(self) -> dict[str, Any]:
        """The peak, the product that reached it, and all samples."""
        best = max(self.flop, key=lambda name: self.flop[name] / min(self.seconds[name]))
        rates = np.concatenate([self.flop[name] / np.array(times) for name, times in self.seconds.items()])
        return {
            "number_format": str(self.dtype).removeprefix("torch."),
            "flop_per_s": {"value": self.flop_per_s, "n": len(rates), "min": float(rates.min()), "of": best},
            "samples": [
                {"product": name, "flop": self.flop[name], "seconds": times} for name, times in self.seconds.items()
            ],
        }

    def _products(self) -> dict[str, tuple[int, Callable[[], object]]]:
        is_cpu = self.device.type == "cpu"
        products: dict[str, tuple[int, Callable[[], object]]] = {}
        for n in _CPU_SIZES if is_cpu else _CUDA_SIZES:
            a, b, out = (self._numbers(n, n) for _ in range(3))
            products[f"torch.mm {n} × {n} × {n}"] = 2 * n**3, partial(torch.mm, a, b, out=out)
        if is_cpu:
            n_cores = torch.get_num_threads()
            for rows, width in _ENGINE_SHAPES:
                layout = PackedLayout.from_lengths(np.full(8 * n_cores, rows // 8))
                tokens_T = torch.zeros(rows * n_cores, dtype=torch.int32)
                product = partial(
                    _engine_product, x_TD=self._numbers(rows * n_cores, width), weight_ED=self._numbers(width, width)
                )
                name = f"linear {rows} × {width} × {width} on {n_cores} cores"
                products[name] = 2 * rows * n_cores * width**2, partial(run_on_cores, product, tokens_T, layout)
        return products

    def _numbers(self, rows: int, columns: int) -> Tensor:
        """Random ones: products of constants draw less power, and a graphics card then runs faster than it can."""
        return torch.randn(rows, columns, device=self.device, dtype=self.dtype)


def _enough(seconds: list[float]) -> bool:
    total_s = sum(seconds)
    return total_s >= _TOO_LONG_S or (len(seconds) >= _FEWEST and (total_s >= _ENOUGH_S or len(seconds) >= _MOST))


def _engine_product(tokens_T: Tensor, _: PackedLayout, *, x_TD: Tensor, weight_ED: Tensor) -> Tensor:
    """A linear layer's product over as many rows as the micro-batch has tokens; one number a token comes back."""
    return linear(x_TD[: len(tokens_T)], weight_ED, None)[:, 0]

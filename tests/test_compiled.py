from __future__ import annotations

import numba
import numpy as np

from seqassay.compiled import compiled


def total(values: np.ndarray) -> int:
    result = 0
    for value in values:
        result += value
    return result


def test_machine_code_gives_what_python_gives() -> None:
    assert compiled(total)(np.arange(10)) == total(np.arange(10)) == 45


def test_a_place_where_nothing_can_be_kept_still_compiles(monkeypatch) -> None:
    njit = numba.njit

    def no_locator(**options: bool):
        if options.get("cache"):
            raise RuntimeError("cannot cache function 'total': no locator available for file")
        return njit(**options)

    monkeypatch.setattr(numba, "njit", no_locator)
    assert compiled(total)(np.arange(10)) == 45

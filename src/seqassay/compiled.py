"""Loops over single bases and tokens, compiled to machine code by numba at their first call.

Compiled loops let go of the interpreter lock, so that threads that prepare shards run side by side, and beside the
models. The machine code is kept on disk (in the package's folder, else in the user's cache folder): a few seconds
of compilation are spent once an installation. Where neither folder can be written, every process compiles anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

_F = TypeVar("_F", bound=Callable[..., object])


def compiled(function: _F) -> _F:
    """Decorator: the function as machine code. Its arguments and results are arrays, numbers and booleans."""
    try:
        return cast(_F, numba.njit(nogil=True, cache=True)(function))
    except RuntimeError:  # numba's "no locator available": no folder to keep the machine code in
        return cast(_F, numba.njit(nogil=True)(function))

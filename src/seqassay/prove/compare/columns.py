"""Columns out of tab-separated bytes, a million rows in a fraction of a second.

A row is four to eight short fields. Python strings for them would take ten times the memory of the file; here a file
stays one array of bytes, fields are positions in it, and numbers are read where they lie.

Shape letters: N rows, C columns.
"""

from __future__ import annotations

import math
import re

import numpy as np
import numpy.typing as npt

from seqassay.compiled import compiled

Bytes = npt.NDArray[np.uint8]
Bounds = npt.NDArray[np.int64]

OK, EMPTY, HARD = 0, 1, 2  # what became of a field that should be a number
_POWERS: npt.NDArray[np.float64] = np.float64(10) ** np.arange(23)  # 10^0 to 10^22, which a float64 holds exactly
_NUMBER = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def split_rows(data: Bytes, first: int, n_columns: int) -> tuple[Bounds, int, int]:
    """Where the fields of every row lie.

    Args:
        data: a file's bytes, every line of it ended by ``\\n`` or ``\\r\\n``.
        first: where the first row begins.

    Returns:
        bounds_N[C+1]: field c of row i is ``data[bounds[i, c] : bounds[i, c + 1] - 1]``; the first row with another
        number of fields (-1: none); and how many fields that one has.
    """
    n_rows = int(np.count_nonzero(data[first:] == ord("\n")))
    bounds = np.zeros((n_rows, n_columns + 1), np.int64)
    bad_row, n_found = _split(data, first, bounds)
    return bounds, int(bad_row), int(n_found)


def decimals(data: Bytes, bounds: Bounds, column: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A column of decimal numbers.

    Numbers of up to 15 digits are exactly what ``float()`` makes of them, longer ones at most one unit in the last
    place (1e-16) away.

    Returns:
        values_N, NaN for an empty field; and the rows that hold no number (``nan`` and ``inf`` are none).
    """
    values = np.full(len(bounds), math.nan)
    state = np.zeros(len(bounds), np.int8)
    _read_decimals(data, bounds, column, _POWERS, values, state)
    wrong = []
    for row in np.flatnonzero(state == HARD).tolist():
        text = field(data, bounds, row, column)
        if _NUMBER.fullmatch(text):
            values[row] = float(text)
        else:
            wrong.append(row)
    return values, np.array(wrong, np.int64)


def words(data: Bytes, bounds: Bounds, column: int, known: tuple[str, ...]) -> npt.NDArray[np.int8]:
    """Which of the known words a column holds, by number; -1 for any other."""
    joined = np.frombuffer("".join(known).encode() or b"\0", np.uint8)
    ends = np.cumsum([0, *(len(word.encode()) for word in known)]).astype(np.int64)
    codes = np.full(len(bounds), -1, np.int8)
    _match_words(data, bounds, column, joined, ends, codes)
    return codes


def field(data: Bytes, bounds: Bounds, row: int, column: int) -> bytes:
    """One field as bytes."""
    return data[bounds[row, column] : bounds[row, column + 1] - 1].tobytes()


@compiled
def _split(data: Bytes, first: int, bounds: Bounds) -> tuple[int, int]:
    n_rows, n_columns = bounds.shape[0], bounds.shape[1] - 1
    position = first
    for row in range(n_rows):
        bounds[row, 0] = position
        column = 0
        while data[position] != 10:
            if data[position] == 9:
                column += 1
                if column < n_columns:
                    bounds[row, column] = position + 1
            position += 1
        if column + 1 != n_columns:
            return row, column + 1
        ends_with_cr = position > bounds[row, column] and data[position - 1] == 13
        bounds[row, n_columns] = position if ends_with_cr else position + 1
        position += 1
    return -1, 0


@compiled
def _read_decimals(
    data: Bytes,
    bounds: Bounds,
    column: int,
    powers: npt.NDArray[np.float64],
    values: npt.NDArray[np.float64],
    state: npt.NDArray[np.int8],
) -> None:
    for row in range(bounds.shape[0]):
        at, end = bounds[row, column], bounds[row, column + 1] - 1
        if at == end:
            state[row] = 1
            continue
        mantissa, n_digits, exponent, seen_point, is_number = 0, 0, 0, False, True
        while at < end and is_number:
            byte = data[at]
            if 48 <= byte <= 57:
                n_digits += mantissa > 0 or byte > 48
                mantissa = mantissa * 10 + (byte - 48)
                exponent -= seen_point
                is_number = n_digits <= 18  # more could run over 2^63
            elif byte == 46 and not seen_point:
                seen_point = True
            else:
                break
            at += 1
        # At least one digit; an exponent of a sign and one or two digits; all else is for Python to judge.
        if is_number and at < end:
            is_number = (data[at] == 101 or data[at] == 69) and end - at >= 3 and end - at <= 4
            if is_number:
                sign = 1 if data[at + 1] == 43 else -1 if data[at + 1] == 45 else 0
                power = 0
                for place in range(at + 2, end):
                    is_number = is_number and 48 <= data[place] <= 57
                    power = power * 10 + (data[place] - 48)
                is_number = is_number and sign != 0
                exponent += sign * power
        has_digit = 48 <= data[bounds[row, column]] <= 57
        if not is_number or not has_digit or exponent < -22 or exponent > 22:
            state[row] = 2
        elif exponent < 0:
            values[row] = np.float64(mantissa) / powers[-exponent]
        else:
            values[row] = np.float64(mantissa) * powers[exponent]


@compiled
def _match_words(
    data: Bytes, bounds: Bounds, column: int, joined: Bytes, ends: Bounds, codes: npt.NDArray[np.int8]
) -> None:
    for row in range(bounds.shape[0]):
        at, length = bounds[row, column], bounds[row, column + 1] - 1 - bounds[row, column]
        for word in range(len(ends) - 1):
            if ends[word + 1] - ends[word] != length:
                continue
            same = True
            for i in range(length):
                if data[at + i] != joined[ends[word] + i]:
                    same = False
                    break
            if same:
                codes[row] = word
                break

"""What one run computes: tokens, and floating-point operations counted from shapes."""

from __future__ import annotations

from dataclasses import dataclass

from seqassay.models.esm2 import ESM2_ALPHABET, Esm2

FLOP_METHOD = (
    "counted from shapes: 2·m·k·n for each matrix product of the encoder that the engine computes, attention over "
    "every sequence's own length included; not counted: normalisation, softmax, GELU, rotary positions, pooling, and "
    "the rows that the CPU path adds to make batches round"
)


@dataclass(frozen=True, slots=True)
class Work:
    """Of one run over all sequences."""

    sequences: int
    residues: int
    tokens: int
    flop: int


def work_of(model: Esm2, residue_lengths: list[int], *, exact: bool) -> Work:
    """Work of embedding proteins of these lengths, each with its begin and its end token.

    The first layer's queries, keys and values depend on the letter alone, so that the engine projects the 33 letters
    and not every token (not in ``exact``); what it leaves out isn't counted, or a share of the peak would be too large.
    """
    token_lengths = [length + 2 for length in residue_lengths]
    tokens, d = sum(token_lengths), model.config.d_model
    flop = model.flops(token_lengths)
    if not exact:
        flop -= 2 * d * 3 * d * (tokens - len(ESM2_ALPHABET))
    return Work(len(residue_lengths), sum(residue_lengths), tokens, flop)

"""What a page shows of a run's sequences, taken from ``sequences.tsv`` in one pass and in constant memory.

The same pass serves ``predict``, right after it wrote the table, and ``seqassay report``, whenever later: so both give
the same page. A million rows take a few seconds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from seqassay.errors import InputError

TABLE = "sequences.tsv"
COLUMNS = ("sequence_id", "length", "n_chunks", "n_frames", "status", "score", "call", "q_value")
VIRUS = "virus"

N_SCORE_BINS = 50
SCORE_BANDS = (0.99, 0.9, 0.75, 0.5, 0.25, 0.1, 0.0)  # lowest score of each
Q_LIMITS = (0.01, 0.05, 0.1, 0.2)
MOST_TOP = 200
LONGEST_EXACT = 2000  # lengths up to here are counted one by one, longer ones in steps of 1, 2, 5, 10, …
LENGTH_STEPS = tuple(factor * 10**power for power in range(13) for factor in (1, 2, 5))

_BLOCK_BYTES = 1 << 20
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TopSequence:
    """A sequence called virus, as the page lists it; ``q_value`` is None for bundles without a calibration."""

    score: float
    row: int
    name: str
    length: int
    n_frames: int
    q_value: float | None


@dataclass
class Lengths:
    """How long sequences are: exact counts of the short ones, and counts by step of all."""

    n: int = 0
    total: int = 0
    shortest: int = 0
    longest: int = 0
    exact: Int64Array = field(default_factory=lambda: np.zeros(LONGEST_EXACT + 1, np.int64))
    by_step: Int64Array = field(default_factory=lambda: np.zeros(len(LENGTH_STEPS) + 1, np.int64))

    def add(self, lengths: Int64Array) -> None:
        """Count these as well."""
        if not len(lengths):
            return
        shortest = int(lengths.min())
        self.shortest = min(self.shortest, shortest) if self.n else shortest
        self.longest = max(self.longest, int(lengths.max()))
        self.n += len(lengths)
        self.total += int(lengths.sum())
        self.exact += np.bincount(lengths[lengths <= LONGEST_EXACT], minlength=LONGEST_EXACT + 1)
        steps = np.searchsorted(LENGTH_STEPS, lengths, side="right")
        self.by_step += np.bincount(steps, minlength=len(LENGTH_STEPS) + 1)


@dataclass
class Sample:
    """A run's sequences, added up.

    Attributes:
        by_status: for every status there is: sequences, those with a score, those called virus.
        virus_by_score, others_by_score: scored sequences in ``N_SCORE_BINS`` equal bins from 0 to 1.
        virus_by_band, others_by_band: scored sequences whose highest reached band of ``SCORE_BANDS`` it is.
        by_q_limit: sequences with a q-value of at most each of ``Q_LIMITS``; None without q-values.
        lengths, viral_lengths: of all sequences, and of those called virus.
        top: the best-scoring ones called virus, best first; among equals in input order.
    """

    n_rows: int = 0
    by_status: dict[str, list[int]] = field(default_factory=dict)
    virus_by_score: Int64Array = field(default_factory=lambda: np.zeros(N_SCORE_BINS, np.int64))
    others_by_score: Int64Array = field(default_factory=lambda: np.zeros(N_SCORE_BINS, np.int64))
    virus_by_band: Int64Array = field(default_factory=lambda: np.zeros(len(SCORE_BANDS), np.int64))
    others_by_band: Int64Array = field(default_factory=lambda: np.zeros(len(SCORE_BANDS), np.int64))
    by_q_limit: Int64Array | None = None
    lengths: Lengths = field(default_factory=Lengths)
    viral_lengths: Lengths = field(default_factory=Lengths)
    top: list[TopSequence] = field(default_factory=list)

    @property
    def n_virus(self) -> int:
        """Sequences called virus."""
        return self.viral_lengths.n

    def add(self, rows: list[list[bytes]]) -> None:
        """Count a block of rows, already split into columns.

        Raises:
            ValueError: a figure that is none.
        """
        columns = list(zip(*rows, strict=True))
        length = np.array(columns[1]).astype(np.int64)
        score = np.array([text or b"nan" for text in columns[5]]).astype(np.float64)
        is_virus = np.array(columns[6]) == VIRUS.encode()
        has_score = ~np.isnan(score)
        if not ((score[has_score] >= 0) & (score[has_score] <= 1)).all() or length.min() < 0:
            raise ValueError("a score outside 0 to 1, or a length below 0")
        self._count_status(np.array(columns[4]), has_score, is_virus)
        self._count_scores(score, has_score, is_virus)
        self._count_q_values(columns[7])
        self.lengths.add(length)
        self.viral_lengths.add(length[is_virus])
        self._keep_best(rows, score, is_virus)
        self.n_rows += len(rows)

    def _count_status(
        self, status: npt.NDArray[np.bytes_], has_score: npt.NDArray[np.bool_], is_virus: npt.NDArray[np.bool_]
    ) -> None:
        for name in np.unique(status).tolist():
            here = status == name
            counts = self.by_status.setdefault(name.decode(), [0, 0, 0])
            for i, n in enumerate((here.sum(), (here & has_score).sum(), (here & is_virus).sum())):
                counts[i] += int(n)

    def _count_scores(
        self, score: npt.NDArray[np.float64], has_score: npt.NDArray[np.bool_], is_virus: npt.NDArray[np.bool_]
    ) -> None:
        by_score = np.minimum((score[has_score] * N_SCORE_BINS + 1e-9).astype(np.int64), N_SCORE_BINS - 1)
        by_band = np.searchsorted(-np.array(SCORE_BANDS), -score[has_score])
        virus = is_virus[has_score]
        for bins, of_virus, of_others in (
            (by_score, self.virus_by_score, self.others_by_score),
            (by_band, self.virus_by_band, self.others_by_band),
        ):
            of_virus += np.bincount(bins[virus], minlength=len(of_virus))
            of_others += np.bincount(bins[~virus], minlength=len(of_others))

    def _count_q_values(self, texts: tuple[bytes, ...]) -> None:
        q_values = np.array([text for text in texts if text]).astype(np.float64)
        if len(q_values):
            n = np.array([(q_values <= limit).sum() for limit in Q_LIMITS], np.int64)
            self.by_q_limit = n if self.by_q_limit is None else self.by_q_limit + n

    def _keep_best(
        self, rows: list[list[bytes]], score: npt.NDArray[np.float64], is_virus: npt.NDArray[np.bool_]
    ) -> None:
        enough = self.top[-1].score if len(self.top) == MOST_TOP else -1.0
        candidates = np.flatnonzero(is_virus & (score > enough))
        best = candidates[np.argsort(-score[candidates], kind="stable")][:MOST_TOP]
        for i in best.tolist():
            name, length, _, n_frames, _, _, _, q_value = rows[i]
            self.top.append(
                TopSequence(
                    score=float(score[i]),
                    row=self.n_rows + i,
                    name=name.decode("utf-8", "surrogateescape"),
                    length=int(length),
                    n_frames=int(n_frames),
                    q_value=float(q_value) if q_value else None,
                )
            )
        self.top.sort(key=lambda sequence: (-sequence.score, sequence.row))
        del self.top[MOST_TOP:]


@lru_cache(maxsize=8)  # a run among several is shown by itself and beside the others
def read_sample(path: Path, sha256_wanted: str, n_sequences: int) -> Sample:
    """Read the table of a finished run.

    Args:
        sha256_wanted: what the run's record says of the file.
        n_sequences: rows that it has to have.

    Raises:
        InputError: the file is not the one that the run wrote.
    """
    sha256, sample = hashlib.sha256(), Sample()
    n_lines = 1
    for lines in _blocks(path, sha256):
        if n_lines == 1:
            if tuple(lines[0].decode("utf-8", "replace").split("\t")) != COLUMNS:
                raise _changed(path, 1, "the columns are others")
            lines = lines[1:]
        rows = [line.split(b"\t") for line in lines]
        wrong = next((i for i, row in enumerate(rows) if len(row) != len(COLUMNS)), None)
        if wrong is not None:
            raise _changed(path, n_lines + wrong + 1, f"{len(rows[wrong])} columns")
        try:
            if rows:
                sample.add(rows)
        except ValueError as error:
            raise _changed(path, n_lines + 1, f"in the {len(rows):,} rows from here on, {error}") from error
        n_lines += len(rows)
    if sha256.hexdigest() != sha256_wanted or sample.n_rows != n_sequences:
        raise _changed(path, None, "its SHA-256 is not the one in run.json")
    return sample


def _blocks(path: Path, sha256: hashlib._Hash) -> Iterator[list[bytes]]:
    """The file's lines in blocks of about a megabyte; every byte is taken into the digest."""
    rest = b""
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            sha256.update(block)
            whole, newline, rest = (rest + block).rpartition(b"\n")
            if newline:
                yield whole.split(b"\n")
    if rest:
        yield [rest]


def _changed(path: Path, line: int | None, what: str) -> InputError:
    return InputError(
        f"is not the table that the run wrote: {what}", path=path, line=line, hint="make the run's outputs again"
    )

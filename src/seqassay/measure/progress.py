"""Where a run stands: written by the run, read by whatever shows it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class RunProgress:
    """Plain counters; one thread writes each of them, any thread may read.

    Attributes:
        stage: what is being done, in the words of the stages.
        unit: what its sequences are called where they are shown.
        total_sequences: None while it isn't known (standard input, or not counted yet).
        done_sequences: in finished shards, resumed ones included.
        resumed_sequences: taken over from an earlier run; they count as done, not for the rate.
        shard_sequences, shard_tokens: size of the shard being embedded.
        tokens: reads the number of tokens embedded so far.
        on_stage: called by `begin_stage` with the stage's name.
    """

    stage: str = "starting"
    unit: str = "sequences"
    total_sequences: int | None = None
    done_sequences: int = 0
    resumed_sequences: int = 0
    shard_sequences: int = 0
    shard_tokens: int = 0
    tokens: Callable[[], int] = lambda: 0
    on_stage: Callable[[str], None] = lambda stage: None
    _tokens_at_shard: int = 0
    _started: float = field(default_factory=time.monotonic)

    def begin_work(self) -> None:
        """Start the clock of the rates: loading models is over."""
        self._started = time.monotonic()

    def begin_stage(self, stage: str) -> None:
        """The work goes over to another stage; whoever measures by stage is told."""
        self.stage = stage
        self.on_stage(stage)

    def begin_part(self, stage: str, unit: str, total: int | None) -> None:
        """Another stage, with a count and a rate of its own, in units of its own."""
        self.unit, self.total_sequences = unit, total
        self.done_sequences = self.resumed_sequences = 0
        self.begin_work()
        self.begin_stage(stage)

    def begin_shard(self, n_sequences: int, n_tokens: int) -> None:
        """A shard goes to the device."""
        self._tokens_at_shard = self.tokens()
        self.shard_sequences, self.shard_tokens = n_sequences, n_tokens

    def end_shard(self, n_sequences: int) -> None:
        """A shard of this many sequences is scored."""
        self.shard_sequences = self.shard_tokens = 0
        self.done_sequences += n_sequences

    def skip_shard(self, n_sequences: int) -> None:
        """A shard was found committed by an earlier run."""
        self.done_sequences += n_sequences
        self.resumed_sequences += n_sequences

    @property
    def sequences(self) -> int:
        """Sequences done, those of the shard in work in proportion to its tokens; never falls."""
        if not self.shard_tokens:
            return self.done_sequences
        share = min(1.0, (self.tokens() - self._tokens_at_shard) / self.shard_tokens)
        return self.done_sequences + int(self.shard_sequences * share)

    @property
    def scored_sequences(self) -> int:
        """Sequences done by this run itself."""
        return self.sequences - self.resumed_sequences

    @property
    def elapsed_s(self) -> float:
        """Seconds since the work began."""
        return time.monotonic() - self._started

    @property
    def sequences_per_s(self) -> float:
        """Mean rate of this run; resumed sequences don't count."""
        return self.scored_sequences / max(self.elapsed_s, 1e-9)

    @property
    def tokens_per_s(self) -> float:
        """Mean rate of this run, tokens of both encoders."""
        return self.tokens() / max(self.elapsed_s, 1e-9)

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at the mean rate; None while the total or the rate isn't known."""
        rate = self.sequences_per_s
        if self.total_sequences is None or rate <= 0:
            return None
        return max(0, self.total_sequences - self.sequences) / rate

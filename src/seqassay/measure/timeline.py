"""How a run went over time, in a bounded number of points: neighbours are joined when there are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_POINTS = 200
# The process's clock counts other threads' time up to the last scheduler tick alone: at most 10 ms a core and reading.
CLOCK_LAG_S = 0.01


def cpu_share(cpu_s: float, wall_s: float, *, cores: int, n_stretches: int = 1) -> float | None:
    """Processor time over what ``cores`` could have given in that time, at most 1; None where it is impossible.

    It is impossible beyond the clock's lag at both ends of every stretch: then the process ran on other cores too.
    """
    share = cpu_s / (wall_s * cores)
    if not 0 <= share <= 1 + 2 * CLOCK_LAG_S * n_stretches / wall_s:
        return None
    return min(1.0, share)


@dataclass(slots=True)
class Stretch:
    """A stretch of time, and what was done in it.

    Attributes:
        wall_s, cpu_s: its length, and the processor time that the process took in it.
        sequences, tokens: done in it.
        device_sum, device_n: device utilisation, added up over its readings.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    sequences: int = 0
    tokens: int = 0
    device_sum: float = 0.0
    device_n: int = 0

    def joined(self, later: Stretch) -> Stretch:
        """Both, as one stretch."""
        return Stretch(
            self.wall_s + later.wall_s,
            self.cpu_s + later.cpu_s,
            self.sequences + later.sequences,
            self.tokens + later.tokens,
            self.device_sum + later.device_sum,
            self.device_n + later.device_n,
        )


class Timeline:
    """At most 200 points of equally many stretches each, however long the run."""

    def __init__(self, most_points: int = MOST_POINTS) -> None:
        if most_points < 2 or most_points % 2:
            raise ValueError(f"most_points is {most_points}; it has to be an even number")
        self._most = most_points
        self._points: list[Stretch] = []
        self._open, self._n_open, self._per_point = Stretch(), 0, 1

    def add(self, stretch: Stretch) -> None:
        """The stretch that follows those before."""
        self._open, self._n_open = self._open.joined(stretch), self._n_open + 1
        if self._n_open < self._per_point:
            return
        self._points.append(self._open)
        self._open, self._n_open = Stretch(), 0
        if len(self._points) == self._most:
            self._points = [a.joined(b) for a, b in zip(self._points[::2], self._points[1::2], strict=True)]
            self._per_point *= 2

    def as_records(self, cores: int) -> list[dict[str, Any]]:
        """Each point's end in seconds, what was done until then, and rates and shares over the point itself.

        Args:
            cores: what the processor time is a share of.
        """
        points = [*self._points, *([self._open] if self._n_open else [])]
        records, seconds, sequences, tokens = [], 0.0, 0, 0
        for point in points:
            seconds, sequences, tokens = seconds + point.wall_s, sequences + point.sequences, tokens + point.tokens
            wall_s = point.wall_s
            cpu = cpu_share(point.cpu_s, wall_s, cores=cores) if wall_s else None
            records.append(
                {
                    "seconds": round(seconds, 3),
                    "sequences": sequences,
                    "tokens": tokens,
                    "sequences_per_s": round(point.sequences / wall_s, 1) if wall_s else None,
                    "tokens_per_s": round(point.tokens / wall_s, 1) if wall_s else None,
                    "cpu": None if cpu is None else round(cpu, 4),
                    "gpu": round(point.device_sum / point.device_n, 4) if point.device_n else None,
                }
            )
        return records

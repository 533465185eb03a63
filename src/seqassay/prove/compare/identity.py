"""Whose results these are: model, chunk length and input of each side, and whether they are the same.

An earlier comparison of a 300-bp model's results with a 500-bp model's read as 93% agreement and cost days. What is
known to differ is therefore refused unless it is named; what is not known is said to be unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from seqassay.errors import UsageError

_DIGEST_BY_SHARDS = ("1.0", "1.1", "1.2")  # versions of run.json whose digest depends on the shard size

Sameness = Literal["same", "different", "unknown"]


@dataclass(frozen=True, slots=True)
class Identity:
    """What is known of one side; None is "not known".

    Attributes:
        bundle, encoder: name and digest of the model.
        chunk_length: in bases.
        inputs: digest of the records.
        shard_size: what that digest depends on besides; None from version 1.3 of ``run.json`` on.
        other: further settings that scores depend on.
    """

    bundle: tuple[str, str] | None = None
    encoder: tuple[str, str] | None = None
    chunk_length: int | None = None
    inputs: str | None = None
    shard_size: int | None = None
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_known(self) -> bool:
        """Whether anything is."""
        return self.bundle is not None or self.encoder is not None

    def as_record(self) -> dict[str, Any]:
        """As JSON types."""

        def model(named: tuple[str, str] | None) -> dict[str, str] | None:
            return None if named is None else {"name": named[0], "digest": named[1]}

        return {
            "known": self.is_known,
            "bundle": model(self.bundle),
            "encoder": model(self.encoder),
            "chunk_length": self.chunk_length,
            "input_digest": self.inputs,
            "shard_size": self.shard_size,
            "other": dict(self.other),
        }


def identity_of_run(record: Mapping[str, Any]) -> Identity:
    """What ``run.json`` says of a run; of the chunk length nothing, where it was written before version 1.2.

    Raises:
        KeyError: the record lacks what every run's has.
    """
    said = record["identity"]
    other = {name: said[name] for name in said if name not in ("bundle", "inputs")}
    name, digest = record["bundle"]["name"], record["bundle"]["digest"]
    return Identity(
        bundle=(name, digest),
        chunk_length=record["bundle"].get("chunk_length"),
        inputs=record["input_digest"],
        shard_size=said["shard_size"] if record["version"] in _DIGEST_BY_SHARDS else None,
        other=other,
    )


def identity_of_embeddings(metadata: Mapping[str, str]) -> Identity:
    """What a file of embeddings says of itself."""
    other = {name: metadata[name] for name in ("kind", "pooling", "precision", "seqassay_version") if name in metadata}
    if "encoder_digest" not in metadata:
        return Identity(other=other)
    return Identity(encoder=(metadata.get("encoder", ""), metadata["encoder_digest"]), other=other)


class Likeness:
    """What two sides have in common, thing by thing; grows as rows are seen, and refuses what was not allowed."""

    def __init__(self, a: Identity, b: Identity, things: tuple[str, ...], allowed: tuple[str, ...]) -> None:
        """Compare what is known before a row is read.

        Args:
            things: which things of ``settings.THINGS`` these files have.
            allowed: those that may differ.

        Raises:
            UsageError: something differs that may not, or something may differ that doesn't.
        """
        self.a, self.b, self.allowed = a, b, allowed
        self.found: dict[str, Sameness] = {thing: _compare(thing, a, b) for thing in things}
        self.reasons: dict[str, str] = {}
        for thing in things:
            if self.found[thing] == "different":
                self._differs(thing, f"A has {_shown(thing, a)}, B has {_shown(thing, b)}")
        for thing in allowed:
            if thing not in things:
                raise UsageError(
                    f"--allow-different names {thing}; these files differ in {' or '.join(things)} at most"
                )
            if self.found[thing] == "same":
                raise UsageError(
                    f"--allow-different names {thing}, but that is the same on both sides ({_shown(thing, a)})",
                    hint="name only what differs",
                )
        self._refuse()

    def seen(self, thing: str, n_rows: int, what: str) -> None:
        """Rows show that a thing differs, whatever was known of it.

        Raises:
            UsageError: it may not.
        """
        if n_rows:
            self._differs(thing, f"{n_rows:,} {what}")
            self._refuse()

    @property
    def other_settings(self) -> dict[str, dict[str, Any]]:
        """Settings besides the things compared that both sides name and that differ."""
        return {
            name: {"a": value, "b": self.b.other[name]}
            for name, value in self.a.other.items()
            if name in self.b.other and self.b.other[name] != value
        }

    def as_record(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "a": self.a.as_record(),
            "b": self.b.as_record(),
            "found": dict(self.found),
            "reasons": dict(self.reasons),
            "allowed_to_differ": list(self.allowed),
            "other_settings": self.other_settings,
        }

    def _differs(self, thing: str, reason: str) -> None:
        self.found[thing] = "different"
        self.reasons[thing] = f"{self.reasons[thing]}; {reason}" if thing in self.reasons else reason

    def _refuse(self) -> None:
        refused = [thing for thing, found in self.found.items() if found == "different" and thing not in self.allowed]
        if not refused:
            return
        names = ",".join(thing for thing, found in self.found.items() if found == "different")
        raise UsageError(
            "the two sides are not comparable as they are: "
            + "; ".join(f"{thing}: {self.reasons[thing]}" for thing in refused),
            hint=f"compare results of one model on one input, or say that they differ: --allow-different {names}",
        )


def _compare(thing: str, a: Identity, b: Identity) -> Sameness:
    ours, theirs = _value(thing, a), _value(thing, b)
    if ours is None or theirs is None or (thing == "inputs" and a.shard_size != b.shard_size):
        return "unknown"
    return "same" if ours == theirs else "different"


def _value(thing: str, identity: Identity) -> object:
    if thing in ("bundle", "encoder"):
        model = identity.bundle if thing == "bundle" else identity.encoder
        return None if model is None else model[1]
    return identity.chunk_length if thing == "chunk-length" else identity.inputs


def _shown(thing: str, identity: Identity) -> str:
    if thing == "chunk-length":
        return f"{identity.chunk_length} bases"
    if thing == "inputs":
        return f"records with the digest {str(identity.inputs)[:12]}"
    name, digest = (identity.bundle if thing == "bundle" else identity.encoder) or ("", "")
    return f"{name} {digest[:12]}".strip()

"""What scores depend on, so that they can be kept: all of a bundle but its thresholds and the weights of tracks."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from seqassay.models.bundle import Bundle


def scores_digest(bundle: Bundle) -> str:
    """SHA-256 over weights, calibration and the rules of cutting and translating."""
    calibration = None if bundle.calibration is None else replace(bundle.calibration, track_K3=None).as_json()
    rules = (bundle.chunk_length, bundle.chunk_rule, bundle.genetic_code, bundle.ambiguity, bundle.precision)
    text = json.dumps([dict(bundle.files), calibration, rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

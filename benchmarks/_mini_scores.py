"""What scores depend on, so that they can be kept: all of a bundle but the thresholds that it calls by."""

from __future__ import annotations

import hashlib
import json

from seqassay.models.bundle import Bundle


def scores_digest(bundle: Bundle) -> str:
    """SHA-256 over weights, calibration and the rules of cutting and translating."""
    calibration = None if bundle.calibration is None else bundle.calibration.as_json()
    rules = (bundle.chunk_length, bundle.chunk_rule, bundle.genetic_code, bundle.ambiguity, bundle.precision)
    text = json.dumps([dict(bundle.files), calibration, rules], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()

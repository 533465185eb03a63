"""A tiny ESM-2 of the reference implementation, and its folder as such models are published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file
from weight_support import hf_config, randomised, untied_state


@pytest.fixture(scope="session")
def masked_lm() -> Any:
    transformers = pytest.importorskip("transformers", reason="the reference for Hugging Face layouts")
    return randomised(transformers.EsmForMaskedLM(hf_config()))


@pytest.fixture(scope="session")
def published(masked_lm: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as facebook/esm2_* are published: EsmForMaskedLM, safetensors, `esm.` names."""
    folder = tmp_path_factory.mktemp("esm2") / "published"
    masked_lm.config.save_pretrained(folder)
    save_file(untied_state(masked_lm), folder / "model.safetensors")
    return folder

"""Text for language models: reading, tokenizers, token files, windows, overlap checks, probe tasks; no model."""

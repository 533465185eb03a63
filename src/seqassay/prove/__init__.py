"""Whether a model is right, and whether another may take its place: test sets, figures with their spread, gates."""

"""`seqassay lm harness`: tasks of lm-evaluation-harness on our language models."""

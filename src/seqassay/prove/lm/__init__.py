"""`seqassay lm evaluate`: how well a language model predicts text, in figures that compare across tokenizers."""

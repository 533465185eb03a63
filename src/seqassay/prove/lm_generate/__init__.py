"""`seqassay lm generate`: what a language model writes after prompts, and how fast."""

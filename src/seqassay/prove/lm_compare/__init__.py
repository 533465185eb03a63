"""`seqassay lm compare`: many runs in one table."""

"""`seqassay lm sweep`: many trainings of one question, and what they decide."""

"""`seqassay lm score-text`: BLEU and ROUGE of texts against references."""

"""`seqassay benchmark speed`: how much faster one protein encoder is than another, on the same sequences."""

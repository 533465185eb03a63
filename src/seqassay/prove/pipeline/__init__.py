"""`seqassay benchmark pipeline`: the whole of `predict`, end to end, in processes of its own."""

"""`seqassay gate`: limits of a file against the figures of records."""

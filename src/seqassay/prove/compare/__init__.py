"""`seqassay compare`: do two runs, or two result files, say the same?"""

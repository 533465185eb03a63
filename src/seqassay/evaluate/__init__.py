"""Figures of a model's calls: how right they are, how sure one can be of that, and whether its probabilities hold."""

"""Evaluating vectors in memory on trials in memory: the public face of `fv.evaluation.plan`."""

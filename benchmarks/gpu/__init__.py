"""Correctness and speed on a machine with a CUDA card, in stages that keep what they have found."""

"""Labelled examples for every intrinsic: one module a task, and `intrinsics.py`, which lists what is trained."""

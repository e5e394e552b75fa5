"""What the base model reads: a module for every subject, and `mix.py`, which says how much of each."""

"""A chat window over alora_cpp: documents dropped in, replies streaming, verdicts beside each turn."""

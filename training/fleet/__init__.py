"""Many adapters trained side by side over one frozen base model.

An aLoRA needs no gradients before its activation, so all aLoRAs of a fleet share one reading of a conversation and
only their own few tokens are computed for each. LoRAs change every token and are computed in full, a few at a time.
"""

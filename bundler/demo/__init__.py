"""A small language model and a hub to fetch it from: the whole journey on one machine, without a network."""

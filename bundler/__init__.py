"""Move Hugging Face models into places without a network."""

__version__ = "0.1.0"

"""The air-gapped side: from a bundle into the Hugging Face cache."""

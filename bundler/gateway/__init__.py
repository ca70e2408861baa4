"""The connected side: resolve, fetch, build."""

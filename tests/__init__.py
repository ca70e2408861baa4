"""The tests of `bundler`."""

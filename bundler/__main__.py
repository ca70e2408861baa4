"""`python -m bundler` is `bundle`."""

from bundler.cli import run

if __name__ == "__main__":
    run()

"""Our figures beside the peers', on the same data in the same run: `python -m benchmarks`, from a checkout.

Every figure is of whole processes, measured from outside, start-up of Python included; the median of several runs in
which all competitors take turns. Results hold for the machine that they were taken on, and for no other.
"""

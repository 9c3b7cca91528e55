"""A small shop to try coserver on: ``make demo``, or ``coserver serve demo.shop:app``."""

"""Drawings in SVG, each one element without a script.

| file | what it holds |
|---|---|
| waterfall | a trace |
| lifecycle | the phases of a connection |
| elements | colours and text that both use |
"""

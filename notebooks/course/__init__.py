"""What the lessons are made of: observing, recordings, predictions, checks.

A lesson's text stands in ``notebooks/source``; ``building`` makes from it the notebook for
students and the one with solutions. The arrows between the modules run one way::

    cli -> building, recording -> observing -> evidence
           lesson01 -> claims, show, observing -> checks, evidence, predictions

This package stands above all others: it may measure (benchmarks) and show (reports).
"""

"""The textbook experiment, step by step: every figure and table comes from runs made on the spot.

One file per step, each with four functions: ``compute`` runs it and returns plain data,
``tell`` says in words what was measured, ``table`` and ``draw`` show it.
"""

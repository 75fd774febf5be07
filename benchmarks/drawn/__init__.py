"""Training runs drawn at random, on which the constants of the package are chosen.

None of them is a task of the regret benchmark: what is chosen here is judged there.
"""

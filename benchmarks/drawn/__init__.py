"""Training runs drawn at random: a second opinion on the race, beside the regret benchmark.

None of them is a task of that benchmark, and no constant of the package was fitted to them.
"""

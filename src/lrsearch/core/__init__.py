"""What everything stands on: curves, schedules, suggestions and the one loop. NumPy only."""

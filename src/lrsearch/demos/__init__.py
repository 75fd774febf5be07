"""Small real problems, used by the command line, the tutorial and the tests."""

"""The ways of searching: each is a frozen settings object whose decisions are pure functions."""

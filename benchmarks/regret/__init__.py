"""How good is a suggested learning rate? Tasks whose best one is known by exhaustive sweep."""

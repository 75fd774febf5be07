"""One call for those who train with a trainer: each module builds a trainable from theirs."""

"""Loading a language model and knowing where its heads are."""

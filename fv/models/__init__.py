"""Language models: loading one, and knowing where its heads are."""

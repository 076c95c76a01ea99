"""What injected vectors do: grid, choice on dev trials, conditions on test trials, transfer, tables."""

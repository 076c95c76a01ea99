"""Steps, and the other commands on runs: each reads its inputs, calls the library, and writes its files."""

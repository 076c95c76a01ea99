"""The steps: each reads its inputs, calls the library, and writes its artifacts."""

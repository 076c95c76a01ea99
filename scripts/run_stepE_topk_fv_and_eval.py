"""Flag-style stepe: the source's own command line (`--help` lists the flags)."""

from entrypoints.flags import main

if __name__ == "__main__":
    main("stepe")

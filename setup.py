"""What is installed where; all else is in pyproject.toml.

The folders beside `fv/` go into it, so that nothing is installed under names as common as `conf` or `datasets`:
`fv.shipped` finds their files in both places.
"""

from setuptools import find_packages, setup

INSIDE = {
    "fv.conf": "conf",
    "fv.datasets": "datasets",
    "fv.entrypoints": "entrypoints",
    "fv.schemas": "docs/schemas",
}

setup(packages=[*find_packages(include=["fv", "fv.*"]), *INSIDE], package_dir=INSIDE)

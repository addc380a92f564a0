"""The packages whose environments are available without `--import`; no other file lists them.

A checkpoint and `provenance.json` record their versions, their code is trusted not to change an algorithm, and what
their classes and functions hold is taken to be the same in every process of one version.
"""

PACKAGES = ("gymnasium_robotics",)

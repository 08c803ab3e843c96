"""A checkout of PostgreSQL, and what its own rules make of it."""

import os
import re
import subprocess

from processes import BenchError
from suite import KEPT, Suite


class Sources(Suite):
    """A suite out of PostgreSQL's sources. What is built stands outside of the checkout."""

    variable = "POSTGRES_CHECKOUT"
    beside = "postgres"
    repository = "github.com/postgres/postgres"

    def __init__(self):
        super().__init__()
        self.home = os.path.join(KEPT, "postgres", os.path.basename(self.checkout))

    def manifest(self):
        return "`postgres --version`"

    def version(self):
        """As `configure` spells it: 15.18."""
        with open(os.path.join(self.checkout, "configure")) as configure:
            return re.search(r"^PACKAGE_VERSION='(.*)'$", configure.read(), re.MULTILINE).group(1)

    def make(self, log, *targets):
        """Makes targets, each the arguments of one `make`."""
        os.makedirs(self.home, exist_ok=True)
        steps = [["make", "-s", "-j2", *target] for target in targets]
        if not os.path.exists(os.path.join(self.home, "config.status")):
            options = ["--without-readline", "--without-zlib", "--without-icu", "CFLAGS=-O1"]
            steps.insert(0, [os.path.join(self.checkout, "configure"), *options])
        for step in steps:
            if subprocess.run(step, cwd=self.home, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode:
                raise BenchError(f"{' '.join(step)} failed in {self.home}; {log.name} tells why")

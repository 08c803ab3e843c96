"""PostgreSQL's own test program for libpq's pipelines and cancelling."""

import os
import subprocess

from sources import Sources
from suite import judged, note


class LibpqPipeline(Sources):
    """Each of the program's tests is a process."""

    name = "libpq_pipeline"
    title = "libpq_pipeline"
    inside = "src/test/modules/libpq_pipeline/libpq_pipeline.c"
    limit_s = 40

    def __init__(self):
        super().__init__()
        self.program = os.environ.get("LIBPQ_PIPELINE")

    def check(self):
        if not self.program:
            super().check()

    def run(self, place, record, selection, slow):
        # With the libpq of the same checkout; a program from elsewhere knows its own.
        libraries = os.path.join(self.home, "src", "interfaces", "libpq")
        environment = {**place.environment(), **({} if self.program else {"LD_LIBRARY_PATH": libraries})}
        with open(record + ".log", "w") as log:
            program = self.program or self._compiled(log)
            tests = subprocess.run([program, "tests"], env=environment, stdout=subprocess.PIPE, text=True).stdout
            for test in tests.split():
                if not selection or selection in test:
                    command = [program, "-r", "700", test, place.dsn()]
                    note(record, test, *judged(command, self.limit_s, log, environment))
        return self.read(record)

    def _compiled(self, log):
        module = os.path.dirname(self.inside)
        self.make(log, ["-C", "src/interfaces/libpq"], ["-C", module])
        return os.path.join(self.home, module, "libpq_pipeline")

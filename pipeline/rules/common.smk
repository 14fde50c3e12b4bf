import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from data.datasets import DATASETS, generated
from data.errors import EigenshapeError
from pipeline import summary
from pipeline.plan import DISCOVERY, Plan

try:
    # None where a cluster has no limit: then each job has one core.
    # A job of a cluster has one core, or what --set-threads says, however many its node has.
    cores = 1 if workflow.remote_exec else workflow.resource_settings.cores or 1
    PLAN = Plan(config, claims=workflow.is_main_process, cores=cores)
    # An error in an input function would be shown with a traceback; here it is one line.
    PLAN.check(sys.argv[1:])
except EigenshapeError as error:
    raise WorkflowError(str(error))
CONFIG, LAYOUT = PLAN.config, PLAN.layout

if not workflow.deployment_settings.deployment_method:
    # Jobs run the Python that runs Snakemake, even where its environment is not activated.
    own_bin = shlex.quote(os.path.dirname(sys.executable))
    shell.prefix(f"set -euo pipefail; export PATH={own_bin}:$PATH; ")


wildcard_constraints:
    dataset="|".join(DATASETS),
    shard=r"\d{5}",

import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from pipeline import summary
from pipeline.config import ConfigError
from pipeline.plan import Plan
from pipeline.layout import DATASETS, MADE_HERE

try:
    PLAN = Plan(config)
except ConfigError as error:
    raise WorkflowError(str(error))
CONFIG, LAYOUT = PLAN.config, PLAN.layout

# The python that runs Snakemake, unless each rule gets an environment of its own.
OWN_ENVIRONMENTS = workflow.deployment_settings.deployment_method
PIPELINE = (
    f"{'python' if OWN_ENVIRONMENTS else shlex.quote(sys.executable)} -m pipeline"
)
# In the commands but not among the parameters: a change of these reruns nothing.
ROOTS, MACHINE = PLAN.roots(), PLAN.machine()


wildcard_constraints:
    dataset="|".join(DATASETS),
    shard=r"\d{5}",

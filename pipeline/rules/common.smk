import os
import shlex
import sys

from snakemake.exceptions import WorkflowError

sys.path.insert(0, workflow.basedir)

from pipeline import summary
from pipeline.config import SettingError
from pipeline.plan import Plan
from data.datasets import DATASETS, generated

try:
    PLAN = Plan(config)
except SettingError as error:
    raise WorkflowError(str(error))
CONFIG, LAYOUT = PLAN.config, PLAN.layout

if not workflow.deployment_settings.deployment_method:
    # Jobs run the python that runs Snakemake, also where its environment is not activated.
    own_bin = shlex.quote(os.path.dirname(sys.executable))
    shell.prefix(f"set -euo pipefail; export PATH={own_bin}:$PATH; ")


wildcard_constraints:
    dataset="|".join(DATASETS),
    shard=r"\d{5}",

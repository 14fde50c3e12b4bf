# Images -> features -> graphs -> certified eigenvectors -> masks -> report.
#   snakemake --cores 8 pascal_k5        (or coco_k5, folder, demo)
from snakemake.utils import min_version

min_version("9.3")


configfile: "config/config.yaml"


include: "pipeline/rules/common.smk"
include: "pipeline/rules/photos.smk"
include: f"pipeline/rules/{CONFIG.path}.smk"
include: "pipeline/rules/results.smk"
include: "pipeline/rules/objects.smk"
include: "pipeline/rules/words.smk"
include: "pipeline/rules/sazs.smk"
include: "pipeline/rules/zegformer.smk"


rule all:
    """Every data set that is present (the default)"""
    default_target: True
    input:
        PLAN.targets(*PLAN.present()),


for dataset in DATASETS.values():

    rule:
        name:
            dataset.target
        input:
            PLAN.targets(dataset.name),

    workflow.get_rule(dataset.target).docstring = (
        f"Eigenvectors, masks and report of {dataset.images}"
    )


rule demo:
    """The whole pipeline and both segmenters on data that need no download"""
    input:
        PLAN.targets(*generated()),
        LAYOUT.demo_page(),


rule demo_page:
    """Start page of the demo, with links to its other pages"""
    input:
        [LAYOUT.report(name) for name in generated()],
        PLAN.pages,
        f"{CONFIG.results_root}/world/sazs/report.html",
        f"{CONFIG.results_root}/world/zegformer/report.html",
    output:
        LAYOUT.demo_page(),
    log:
        f"{CONFIG.results_root}/demo.log",
    conda:
        "pipeline/rules/jobs.yaml"
    params:
        results=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "python -m pipeline demo-page --results-root {params.results:q} 2>&1 | tee {log:q}"


onsuccess:
    logger.info("\n".join(summary.lines(LAYOUT, sorted(PLAN.used))))

# scikit-image's photos, segmented by words for what they show.


rule words:
    """Page of images segmented by words, with the bundled network"""
    input:
        request=PLAN.request("words"),
        manifest=LAYOUT.manifest("{dataset}"),
        index=LAYOUT.index("{dataset}"),
    output:
        LAYOUT.words("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "words"),
    wildcard_constraints:
        dataset="samples",
    conda:
        "jobs.yaml"
    resources:
        gpu=PLAN.training_gpus(),
        device=CONFIG.machine.device,
        mem_mb=2000,
    params:
        options=PLAN.options("words"),
    shell:
        "python -m pipeline words --dataset {wildcards.dataset} {params.options}"
        " --device {resources.device} 2>&1 | tee {log:q}"

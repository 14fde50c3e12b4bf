# Images -> eigenvector shards, without intermediate files (configuration `path: fused`).


rule fused:
    """Eigenvectors of one shard of images, without intermediate files"""
    input:
        PLAN.photos,
        request=PLAN.request("shard"),
    output:
        shard=LAYOUT.shard("{dataset}", "eigenvectors", "{shard}"),
        record=LAYOUT.record("{dataset}", "eigenvectors", "{shard}"),
    log:
        LAYOUT.log("{dataset}", "fused", "{shard}", ".log"),
    benchmark:
        LAYOUT.log("{dataset}", "fused", "{shard}", ".jsonl")
    conda:
        "jobs.yaml"
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpus,
        device=CONFIG.machine.device,
        batch_size=CONFIG.machine.batch_size,
        mem_mb=lambda wildcards, attempt, threads: 4000 * attempt * threads,
    params:
        options=PLAN.options("fused"),
    shell:
        "python -m pipeline fused --dataset {wildcards.dataset} --shard {wildcards.shard} {params.options}"
        " --device {resources.device} --batch-size {resources.batch_size} --workers {threads} 2>&1 | tee {log:q}"

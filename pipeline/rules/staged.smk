# Images -> features -> Laplacians -> eigenvector shards, one job per stage (configuration `path: staged`).


rule features:
    """Features of one shard of images (path: staged)"""
    input:
        PLAN.photos,
        request=PLAN.request("shard"),
    output:
        shard=temp(LAYOUT.shard("{dataset}", "features", "{shard}")),
        record=temp(LAYOUT.record("{dataset}", "features", "{shard}")),
    log:
        LAYOUT.log("{dataset}", "features", "{shard}", ".log"),
    benchmark:
        LAYOUT.log("{dataset}", "features", "{shard}", ".jsonl")
    group:
        "shard"
    conda:
        "jobs.yaml"
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpus,
        device=CONFIG.machine.device,
        batch_size=CONFIG.machine.batch_size,
        mem_mb=lambda wildcards, attempt, threads: 4000 * attempt * threads,
    params:
        options=PLAN.options("features"),
    shell:
        "python -m pipeline features --dataset {wildcards.dataset} --shard {wildcards.shard} {params.options}"
        " --device {resources.device} --batch-size {resources.batch_size} --workers {threads} 2>&1 | tee {log:q}"


rule laplacian:
    """Affinities of one shard (path: staged)"""
    input:
        PLAN.photos,
        request=PLAN.request("shard"),
        features=LAYOUT.shard("{dataset}", "features", "{shard}"),
    output:
        shard=temp(LAYOUT.shard("{dataset}", "laplacian", "{shard}")),
        record=temp(LAYOUT.record("{dataset}", "laplacian", "{shard}")),
    log:
        LAYOUT.log("{dataset}", "laplacian", "{shard}", ".log"),
    benchmark:
        LAYOUT.log("{dataset}", "laplacian", "{shard}", ".jsonl")
    group:
        "shard"
    conda:
        "jobs.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda wildcards, attempt, threads: 4000 * attempt * threads,
    params:
        options=PLAN.options("laplacian"),
    shell:
        "python -m pipeline laplacian --dataset {wildcards.dataset} --shard {wildcards.shard} {params.options}"
        " --workers {threads} 2>&1 | tee {log:q}"


rule eigenvectors:
    """Eigenvectors of one shard from its affinities (path: staged)"""
    input:
        PLAN.photos,
        request=PLAN.request("shard"),
        laplacian=LAYOUT.shard("{dataset}", "laplacian", "{shard}"),
        earlier=[
            LAYOUT.record("{dataset}", stage, "{shard}")
            for stage in ("features", "laplacian")
        ],
    output:
        shard=LAYOUT.shard("{dataset}", "eigenvectors", "{shard}"),
        record=LAYOUT.record("{dataset}", "eigenvectors", "{shard}"),
    log:
        LAYOUT.log("{dataset}", "eigenvectors", "{shard}", ".log"),
    benchmark:
        LAYOUT.log("{dataset}", "eigenvectors", "{shard}", ".jsonl")
    group:
        "shard"
    conda:
        "jobs.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda wildcards, attempt, threads: 4000 * attempt * threads,
    params:
        options=PLAN.options("eigenvectors"),
    shell:
        "python -m pipeline eigenvectors --dataset {wildcards.dataset} --shard {wildcards.shard} {params.options}"
        " --workers {threads} 2>&1 | tee {log:q}"

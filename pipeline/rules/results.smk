# Eigenvector shards -> masks, the index of the data set, the report.


rule masks:
    """Masks of one shard, as PNG files with the published names"""
    input:
        request=PLAN.request("masks"),
        shard_request=PLAN.request("shard"),
        shard=LAYOUT.shard("{dataset}", "eigenvectors", "{shard}"),
    output:
        LAYOUT.mask_list("{dataset}", "{shard}"),
    log:
        LAYOUT.log("{dataset}", "masks", "{shard}", ".log"),
    benchmark:
        LAYOUT.log("{dataset}", "masks", "{shard}", ".jsonl")
    conda:
        "jobs.yaml"
    threads: PLAN.threads
    resources:
        mem_mb=lambda wildcards, attempt, threads: 2000 * attempt * threads,
    params:
        options=PLAN.options("masks"),
    shell:
        "python -m pipeline masks --dataset {wildcards.dataset} --shard {wildcards.shard} {params.options}"
        " --workers {threads} 2>&1 | tee {log:q}"


rule index:
    """Check that every image is accounted for; write quarantine.csv and provenance.json"""
    input:
        request=PLAN.request("index"),
        manifest=LAYOUT.manifest("{dataset}"),
        shards=PLAN.eigenvectors,
        records=PLAN.records,
    output:
        index=LAYOUT.index("{dataset}"),
        quarantine=LAYOUT.quarantine("{dataset}"),
        provenance=LAYOUT.provenance("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "index"),
    conda:
        "jobs.yaml"
    params:
        options=PLAN.options("index"),
    shell:
        "python -m pipeline index --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"


rule report:
    """HTML page with images, eigenvectors, masks, residuals and failures"""
    input:
        request=PLAN.request("report"),
        manifest=LAYOUT.manifest("{dataset}"),
        index=LAYOUT.index("{dataset}"),
        quarantine=LAYOUT.quarantine("{dataset}"),
        provenance=LAYOUT.provenance("{dataset}"),
    output:
        report(
            LAYOUT.report("{dataset}"),
            caption="../report/eigenvectors.rst",
            category="Eigenvectors",
            labels={"data set": "{dataset}"},
        ),
    log:
        LAYOUT.log("{dataset}", "report"),
    conda:
        "jobs.yaml"
    params:
        options=PLAN.options("report"),
    shell:
        "python -m pipeline report --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"


rule audit:
    """Check that a results folder is complete and consistent"""
    input:
        PLAN.results,
        request=PLAN.request("audit"),
    output:
        LAYOUT.audit("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "audit"),
    conda:
        "jobs.yaml"
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
    shell:
        "python -m pipeline audit {params.folder:q} --no-further --out {output:q} 2>&1 | tee {log:q}"

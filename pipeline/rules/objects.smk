# Eigenvectors -> objects, segments, clusters of segments, names, and a page of them.
#   snakemake --cores 8 objects                              (segments, clusters or names: the folder, or all data sets present)
#   snakemake --cores 8 results/pascal/objects.json          (one data set: see docs/objects.md)

for stage, about in DISCOVERY.items():

    rule:
        name:
            stage
        input:
            PLAN.discovered(stage),

    workflow.get_rule(stage).docstring = (
        f"{about}; of your folder, or of all data sets present"
    )


rule dataset_objects:
    """Objects of one data set"""
    input:
        request=PLAN.request("objects"),
        manifest=LAYOUT.manifest("{dataset}"),
        index=LAYOUT.index("{dataset}"),
    output:
        objects=LAYOUT.objects("{dataset}"),
        images=LAYOUT.object_images("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "objects"),
    conda:
        "jobs.yaml"
    threads: max(4, PLAN.cores)
    resources:
        gpu=PLAN.gpus,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        options=PLAN.options("objects"),
    shell:
        "python -m pipeline objects --dataset {wildcards.dataset} {params.options} --workers {threads} 2>&1 | tee {log:q}"


rule dataset_segments:
    """Segments of one data set"""
    input:
        request=PLAN.request("segments"),
        manifest=LAYOUT.manifest("{dataset}"),
        index=LAYOUT.index("{dataset}"),
    output:
        LAYOUT.segments("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "segments"),
    conda:
        "jobs.yaml"
    threads: max(4, PLAN.cores)
    resources:
        gpu=PLAN.gpus,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        options=PLAN.options("segments"),
    shell:
        "python -m pipeline segments --dataset {wildcards.dataset} {params.options} --workers {threads} 2>&1 | tee {log:q}"


rule dataset_clusters:
    """Clusters of one data set"""
    input:
        request=PLAN.request("clusters"),
        segments=LAYOUT.segments("{dataset}"),
    output:
        LAYOUT.clusters("{dataset}"),
        LAYOUT.centres("{dataset}"),
        LAYOUT.cluster_page("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "clusters"),
    conda:
        "jobs.yaml"
    resources:
        mem_mb=2000,
    params:
        options=PLAN.options("clusters"),
    shell:
        "python -m pipeline clusters --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"


rule dataset_names:
    """Names of one data set"""
    input:
        request=PLAN.request("names"),
        segments=LAYOUT.segments("{dataset}"),
    output:
        LAYOUT.names("{dataset}"),
        LAYOUT.name_images("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "names"),
    conda:
        "jobs.yaml"
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=4000,
    params:
        options=PLAN.options("names"),
    shell:
        "python -m pipeline names --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"


rule dataset_discovery:
    """Page with objects, named segments and joint graphs of one data set"""
    input:
        request=PLAN.request("discovery"),
        manifest=LAYOUT.manifest("{dataset}"),
        objects=LAYOUT.objects("{dataset}"),
        segments=LAYOUT.segments("{dataset}"),
    output:
        LAYOUT.discovery("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "discovery"),
    conda:
        "jobs.yaml"
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        options=PLAN.options("discovery"),
    shell:
        "python -m pipeline discovery --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"

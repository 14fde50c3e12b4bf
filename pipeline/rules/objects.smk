# Eigenvectors -> objects, segments, clusters of segments, names.
#   snakemake --cores 8 results/pascal/objects.json          (segments, clusters and names: see docs/objects.md)


rule objects:
    """Boxes, masks and confidences of the objects of a data set, as COCO JSON"""
    input:
        request=PLAN.request("objects"),
        manifest=LAYOUT.manifest("{dataset}"),
        index=LAYOUT.index("{dataset}"),
    output:
        objects=LAYOUT.objects("{dataset}"),
        images=LAYOUT.objects("{dataset}").replace(".json", ".images.json"),
    log:
        LAYOUT.log("{dataset}", "objects"),
    conda:
        "jobs.yaml"
    threads: 4
    resources:
        gpu=PLAN.gpus,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        options=PLAN.options("objects"),
    shell:
        "python -m pipeline objects --dataset {wildcards.dataset} {params.options} --workers {threads} 2>&1 | tee {log:q}"


rule segments:
    """Label map of each image, and the features of its segments"""
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
    threads: 4
    resources:
        gpu=PLAN.gpus,
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        options=PLAN.options("segments"),
    shell:
        "python -m pipeline segments --dataset {wildcards.dataset} {params.options} --workers {threads} 2>&1 | tee {log:q}"


rule clusters:
    """Clusters of the segments of a data set, scored where there are labels"""
    input:
        request=PLAN.request("clusters"),
        segments=LAYOUT.segments("{dataset}"),
    output:
        LAYOUT.clusters("{dataset}"),
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


rule names:
    """Names of the segments, by an ImageNet classifier"""
    input:
        request=PLAN.request("names"),
        segments=LAYOUT.segments("{dataset}"),
    output:
        LAYOUT.names("{dataset}"),
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

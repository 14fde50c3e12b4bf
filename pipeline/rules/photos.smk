# The images of a run: generated data sets and the manifest.


rule photos:
    """Images of a data set that the pipeline makes itself, such as the generated world"""
    input:
        request=PLAN.request("photos"),
    output:
        LAYOUT.made("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "photos"),
    wildcard_constraints:
        dataset="|".join(generated()),
    conda:
        "jobs.yaml"
    params:
        options=PLAN.options("photos"),
    shell:
        "python -m pipeline photos --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"


rule manifest:
    """List the images of a data set and divide them among shards"""
    input:
        PLAN.photos,
        request=PLAN.request("manifest"),
    output:
        LAYOUT.manifest("{dataset}"),
    log:
        LAYOUT.log("{dataset}", "manifest"),
    conda:
        "jobs.yaml"
    params:
        options=PLAN.options("manifest"),
    shell:
        "python -m pipeline manifest --dataset {wildcards.dataset} {params.options} 2>&1 | tee {log:q}"

# SAZS: weights and scores with one fold of classes held out, by network and benchmark.
#   snakemake results/pascal/sazs/vitl16_384/fold0/scores.json
#   snakemake results/world/sazs/summary.json        (generated, a few minutes)


rule sazs_train:
    """Train SAZS with one fold of classes held out"""
    input:
        lists=LAYOUT.manifest("{benchmark}"),
    output:
        weights=f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/model_best.safetensors",
    log:
        f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/train.log",
    wildcard_constraints:
        benchmark="pascal|coco",
        fold="[0-3]",
    conda:
        "jobs.yaml"
    threads: 4
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=16000,
    params:
        # Not declared as output: Snakemake would remove the checkpoints of a killed job, which resumes from them.
        folder=lambda wildcards, output: f"{os.path.dirname(output.weights)}/training",
        data_dir=CONFIG.datasets_root,
    shell:
        "python sazs.py train --benchmark {wildcards.benchmark} --fold {wildcards.fold} --arch {wildcards.arch}"
        " --data-dir {params.data_dir:q} --filename {params.folder:q} --workers {threads} -v 2>&1 | tee {log:q}"
        " && ln -f {params.folder:q}/model_best.safetensors {output.weights:q}"


rule sazs_test:
    """Score SAZS on the held-out classes, with and without eigenvectors"""
    input:
        weights=f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/model_best.safetensors",
        eigenvectors=LAYOUT.index("{benchmark}"),
    output:
        f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/scores.json",
        f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/report.html",
    log:
        f"{CONFIG.results_root}/{{benchmark}}/sazs/{{arch}}/fold{{fold}}/test.log",
    wildcard_constraints:
        benchmark="pascal|coco",
        fold="[0-3]",
    conda:
        "jobs.yaml"
    threads: 2
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=16000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        eig_dir=lambda wildcards, input: os.path.dirname(input.eigenvectors),
        data_dir=CONFIG.datasets_root,
    shell:
        "python sazs.py test --benchmark {wildcards.benchmark} --fold {wildcards.fold} --resume {input.weights:q}"
        " --data-dir {params.data_dir:q} --eig_dir {params.eig_dir:q} --filename {params.folder:q} -v 2>&1 | tee {log:q}"


rule sazs_demo:
    """Train and score a small SAZS on the generated world"""
    input:
        photos=LAYOUT.made("world"),
        eigenvectors=LAYOUT.index("world"),
    output:
        f"{CONFIG.results_root}/world/sazs/summary.json",
        f"{CONFIG.results_root}/world/sazs/scores.json",
        f"{CONFIG.results_root}/world/sazs/report.html",
    log:
        f"{CONFIG.results_root}/world/sazs/demo.log",
    conda:
        "jobs.yaml"
    threads: 1
    resources:
        mem_mb=4000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        eig_dir=lambda wildcards, input: os.path.dirname(input.eigenvectors),
        data_dir=LAYOUT.tree("world"),
    shell:
        "python sazs.py demo --data-dir {params.data_dir:q} --eig_dir {params.eig_dir:q}"
        " --filename {params.folder:q} -v 2>&1 | tee {log:q}"

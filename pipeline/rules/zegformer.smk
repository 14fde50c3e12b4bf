# ZegFormer: weights and scores, by the name of a published configuration.
#   snakemake zegformer_R50_bs32_60k_vit16_coco-stuff                (trains)
#   snakemake zegformer_R50_bs32_60k_vit16_coco-stuff_gzss_eval      (trains if there are no weights, then scores)
#   snakemake results/world/zegformer/report.html                    (generated, a few minutes)
from pipeline import published

for name, target in published.targets(CONFIG.results_root).items():

    rule:
        name:
            name
        input:
            target,

    workflow.get_rule(name).docstring = published.description(name)


rule zegformer_train:
    """Train ZegFormer with a published configuration"""
    input:
        config="configs/{set}/{config}.yaml",
    output:
        weights=f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}/model_final.safetensors",
    log:
        f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}/train.log",
    wildcard_constraints:
        set="|".join(published.SETS),
        config="zegformer_R((?!_gzss_eval)[^/])+",
    conda:
        "jobs.yaml"
    threads: 8
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=32000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output.weights),
        data_dir=CONFIG.datasets_root,
    shell:
        "python train_net.py --config-file {input.config} --resume --fit-gpus"
        " DATASETS.ROOT {params.data_dir:q} OUTPUT_DIR {params.folder:q} 2>&1 | tee {log:q}"


rule zegformer_score:
    """Score ZegFormer with a published configuration"""
    input:
        config="configs/{set}/{config}_gzss_eval{variant}.yaml",
        weights=f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}/model_final.safetensors",
    output:
        f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}_gzss_eval{{variant}}/inference/{{tested}}/scores.json",
        f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}_gzss_eval{{variant}}/inference/{{tested}}/report.html",
    log:
        f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}_gzss_eval{{variant}}/{{tested}}.log",
    wildcard_constraints:
        set="|".join(published.SETS),
        config="zegformer_R((?!_gzss_eval)[^/])+",
        variant="[^/]*",
        tested="[^/]+",
    conda:
        "jobs.yaml"
    threads: 8
    resources:
        gpu=PLAN.training_gpus(),
        mem_mb=32000,
    params:
        folder=subpath(output[0], ancestor=3),
        data_dir=CONFIG.datasets_root,
    shell:
        "python train_net.py --config-file {input.config} --eval-only MODEL.WEIGHTS {input.weights:q}"
        " DATASETS.ROOT {params.data_dir:q} OUTPUT_DIR {params.folder:q} 2>&1 | tee {log:q}"


rule zegformer_demo:
    """Train and score a small ZegFormer on the generated world"""
    input:
        photos=LAYOUT.made("world"),
        eigenvectors=LAYOUT.index("world"),
    output:
        f"{CONFIG.results_root}/world/zegformer/summary.json",
        f"{CONFIG.results_root}/world/zegformer/report.html",
    log:
        f"{CONFIG.results_root}/world/zegformer/demo.log",
    conda:
        "jobs.yaml"
    threads: 1
    resources:
        mem_mb=6000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        eig_dir=lambda wildcards, input: os.path.dirname(input.eigenvectors),
        data_dir=LAYOUT.tree("world"),
    shell:
        "python -m pipeline.stages.demo_zegformer --data-dir {params.data_dir:q} --eig_dir {params.eig_dir:q}"
        " --out {params.folder:q} 2>&1 | tee {log:q}"

# ZegFormer: label maps of class ids, weights and scores by configuration.
#   snakemake results/zegformer/coco-stuff/zegformer_R50_bs32_60k_vit16_coco-stuff/model_final.safetensors
#   snakemake results/world/zegformer/report.html        (generated, a few minutes)


rule zegformer_train:
    input:
        config="configs/{set}/{config}.yaml",
    output:
        weights=f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}/model_final.safetensors",
    log:
        f"{CONFIG.results_root}/zegformer/{{set}}/{{config}}/train.log",
    wildcard_constraints:
        set="coco-stuff|pascal_voc|ade20k-full-847-freq",
        config="zegformer_R[^/]+",
    conda:
        "../../environment.yml"
    threads: 8
    resources:
        gpu=PLAN.gpus(),
        mem_mb=32000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output.weights),
        data_dir=CONFIG.datasets_root,
    shell:
        "python train_net.py --config-file {input.config} --resume --fit-gpus"
        " DATASETS.ROOT {params.data_dir} OUTPUT_DIR {params.folder} 2>&1 | tee {log:q}"


rule zegformer_demo:
    input:
        photos=LAYOUT.made("world"),
        eigenvectors=LAYOUT.index("world"),
    output:
        f"{CONFIG.results_root}/world/zegformer/summary.json",
        f"{CONFIG.results_root}/world/zegformer/report.html",
    log:
        f"{CONFIG.results_root}/world/zegformer/demo.log",
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=6000,
    params:
        folder=lambda wildcards, output: os.path.dirname(output[0]),
        eig_dir=lambda wildcards, input: os.path.dirname(input.eigenvectors),
        data_dir=LAYOUT.tree("world"),
    shell:
        "python -m train.zegformer_demo --data-dir {params.data_dir:q} --eig_dir {params.eig_dir:q}"
        " --out {params.folder:q} 2>&1 | tee {log:q}"

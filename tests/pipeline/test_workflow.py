"""Snakemake as a user runs it: targets, reruns, kills, typos, a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from eigen.store import shards
from tests.pictures import scene
from tests.pipeline import slurm_stub

pytestmark = [pytest.mark.workflow, pytest.mark.timeout(600)]
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What a clone holds of the workflow, so that runs neither lock nor litter this one."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "config", "profiles", "pipeline"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, root / name)
    linked = ("configs", "data", "eigen", "eigenshape", "_eigenshape_floors.py", "eval", "models")
    for name in (*linked, "train"):
        (root / name).symlink_to(ROOT / name)
    return root


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "a tree"  # shells must not split it
    folder = root / "VOC2012" / "JPEGImages"
    folder.mkdir(parents=True)
    for number in range(6):
        Image.fromarray(scene(64, 96, number)).save(folder / f"2007_{number:06d}.jpg")
    (folder / "2008_000000.jpg").write_bytes(b"")
    return root


def snakemake(checkout, *words, settings=(), path="", **popen):
    command = [str(Path(sys.executable).parent / "snakemake"), *map(str, words)]
    if settings:
        command += ["--config", *settings]
    environment = {
        **os.environ,
        "PATH": f"{path}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.Popen(
        command,
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **popen,
    )


def run(checkout, *words, fails=False, **more):
    process = snakemake(checkout, *words, **more)
    output, _ = process.communicate()
    assert bool(process.returncode) == fails, output
    return output


def settings_for(photos, *more):
    return (
        f"datasets_root={photos}",
        f"results_root={photos / 'results'}",
        "extractor=lowlevel",
        "shard_size=3",
        *more,
    )


def planned(output):
    """Rules of a dry run -> number of jobs."""
    rows = [line.split() for line in output.splitlines() if line.strip()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def test_the_rules_are_formatted_and_without_lint(checkout):
    assert "good condition" in run(checkout, "--lint")
    checked = subprocess.run(
        [Path(sys.executable).parent / "snakefmt", "--check", "Snakefile", "pipeline/rules"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


def test_a_misspelt_key_stops_everything_and_is_named(checkout):
    output = run(checkout, "pascal_k5", settings=["extracter=lowlevel"], fails=True)
    assert "configuration key 'extracter' does not exist; did you mean 'extractor'?" in output


def test_a_missing_tree_is_reported_with_the_expected_paths(checkout, tmp_path):
    output = run(checkout, "pascal_k5", settings=[f"datasets_root={tmp_path}"], fails=True)
    assert "VOC2012/JPEGImages" in output


def test_without_any_images_the_default_target_is_the_demo(checkout, tmp_path):
    output = run(checkout, "-n", settings=[f"datasets_root={tmp_path}", f"results_root={tmp_path}"])
    assert planned(output)["photos"] == 2


@pytest.mark.parametrize("variant", ["", "_847_classes"])
def test_a_published_evaluation_by_name_trains_its_network_first(checkout, tmp_path, variant):
    trained = "zegformer_R101_bs32_60k_vit16_coco-stuff"
    name = f"{trained}_gzss_eval{variant}"
    settings = [f"datasets_root={tmp_path}", f"results_root={tmp_path}/results"]
    output = run(checkout, "-n", "-p", name, settings=settings)
    jobs = {"zegformer_train": 1, "zegformer_score": 1, name: 1, "total": 3}
    assert jobs.items() <= planned(output).items()
    weights = f"{tmp_path}/results/zegformer/coco-stuff/{trained}/model_final.safetensors"
    assert f"{name}.yaml --eval-only MODEL.WEIGHTS {weights}" in output
    Path(weights).parent.mkdir(parents=True)
    Path(weights).touch()
    assert "zegformer_train" not in planned(run(checkout, "-n", name, settings=settings))


def test_scores_of_sazs_ask_for_the_weights_they_read(checkout, photos):
    settings = settings_for(photos)
    folder = photos / "results" / "pascal" / "sazs" / "vits16_384" / "fold1"
    output = run(checkout, "-n", "-p", folder / "scores.json", settings=settings)
    assert {"sazs_train": 1, "sazs_test": 1}.items() <= planned(output).items()
    assert f"--resume '{folder}/model_best.safetensors'" in output
    assert f"--filename '{folder}/training'" in output
    folder.mkdir(parents=True)
    (folder / "model_final.safetensors").touch()
    assert "sazs_train" in planned(run(checkout, "-n", folder / "scores.json", settings=settings))


def test_a_target_from_start_to_end_and_its_reruns(checkout, photos):
    settings = settings_for(photos)
    output = run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    assert "7 images in, 6 done, 1 in quarantine" in output
    folder = photos / "VOC2012" / "pascal_k5"
    assert len(list(folder.glob("*_k[0-4].png"))) == 30

    again = run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    assert "Nothing to be done" in again

    (folder / "2007_000001_k2.png").unlink()
    jobs = planned(run(checkout, "-n", "pascal_k5", settings=settings))
    assert (jobs["masks"], jobs.get("fused")) == (1, None)
    run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    assert (folder / "2007_000001_k2.png").exists()

    copied = shutil.copytree(photos / "results", photos / "copy", copy_function=shutil.copyfile)
    moved = (*settings[:1], f"results_root={copied}", *settings[2:])
    assert "Nothing to be done" in run(checkout, "--cores", 2, "-n", "pascal_k5", settings=moved)

    results = photos / "results" / "pascal"
    untouched = results / "eigenvectors" / "shard-00000.h5"
    before = untouched.stat().st_mtime_ns
    (results / "eigenvectors" / "shard-00001.h5").unlink()
    jobs = planned(run(checkout, "-n", "pascal_k5", settings=settings))
    assert (jobs["fused"], jobs["masks"]) == (1, 1)
    run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    assert untouched.stat().st_mtime_ns == before
    assert len(shards.open(results / "eigenvectors", verify=True)) == 6

    jobs = planned(run(checkout, "-n", "pascal_k5", settings=(*settings, "mask_method=otsu")))
    assert jobs.get("fused") is None and jobs["masks"] == 3
    jobs = planned(run(checkout, "-n", "pascal_k5", settings=(*settings, "top_k=3")))
    assert (jobs["fused"], jobs["masks"]) == (3, 3)
    assert jobs.get("manifest") is None


def test_a_killed_run_is_finished_by_the_same_command(checkout, photos):
    settings = settings_for(photos, "path=staged")
    whole = photos / "results"
    run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    expected = dict(shards.open(whole / "pascal" / "eigenvectors"))
    shutil.rmtree(whole)
    process = snakemake(
        checkout, "--cores", 2, "pascal_k5", settings=settings, start_new_session=True
    )
    records, deadline = whole / "pascal" / "records", time.monotonic() + 120
    while not any(records.glob("[!.]*.json")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "the run had ended before it was killed"
    run(checkout, "--cores", 2, "pascal_k5", settings=settings)
    found = dict(shards.open(whole / "pascal" / "eigenvectors", verify=True))
    assert list(found) == list(expected)
    for id, pairs in expected.items():
        assert found[id].vectors.tobytes() == pairs.vectors.tobytes()


def test_a_failing_job_reports_why_and_ends_the_run(checkout, photos):
    settings = settings_for(photos, "extractor=dino_vits16", "weights=no/such/file.pth")
    output = run(checkout, "--cores", 2, "pascal_k5", settings=settings, fails=True)
    assert "no/such/file.pth" in output and "Traceback" not in output
    assert "Waiting at most" not in output, "a failed command must not look like a slow disk"


def test_one_shard_on_a_cluster(checkout, photos, tmp_path):
    stubs = tmp_path / "slurm"
    stubs.mkdir()
    slurm_stub.install(stubs)
    target = photos / "results" / "pascal" / "eigenvectors" / "shard-00001.h5"
    output = run(
        checkout,
        *("--workflow-profile", "profiles/slurm", "--retries", 0, "--latency-wait", 1),
        *("--slurm-init-seconds-before-status-checks", 1, "--seconds-between-status-checks", 1),
        target,
        settings=settings_for(photos, "device=cuda", "extractor=dino_vits16"),
        path=f"{stubs}:",
        fails=True,  # there is no GPU here; what matters is what was asked for
    )
    submitted = [json.loads(line) for line in (stubs / "submitted.jsonl").read_text().splitlines()]
    (fused,) = (" ".join(words) for words in submitted)
    assert "--gpus=1" in fused and "--mem 4000" in fused and "-t 60" in fused
    assert "'fused:dataset=pascal,shard=00001'" in fused
    assert "--workers 1" in output

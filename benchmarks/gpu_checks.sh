#!/usr/bin/env bash
# Everything that only a GPU can show, in about five minutes of one: bash benchmarks/gpu_checks.sh [OUT]
# Each part has a limit of its own, and a part that fails does not stop the next.
# Tables, JSON files and logs are left in OUT; the exit status is the number of parts that failed.
set -uo pipefail
out=${1:-results/gpu_checks}
workers=$(($(nproc) > 4 ? $(nproc) - 2 : 2))
mkdir -p "$out"
failed=0

part() { # NAME SECONDS COMMAND...
    local name=$1 limit=$2 started=$SECONDS
    shift 2
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.log" 2>&1
    local status=$?
    ((status == 0)) || failed=$((failed + 1))
    echo "== $name: status $status after $((SECONDS - started)) s (limit $limit)"
    grep -E '^\||passed|failed|bound by|Error' "$out/$name.log" | tail -n 14 | cut -c1-220
}

stream() { # NAME EXTRACTOR SIZE PHOTOS AUTOCAST BASELINE
    part "$1" 45 python -m benchmarks.streaming --extractor "$2" --size "$3" --photos "$4" \
        --autocast "$5" --baseline-photos "$6" --workers "$workers" --device cuda --out "$out/$1"
}

python -c 'import torch; print(torch.__version__, torch.cuda.get_device_name())'
part tests 90 python -m pytest -q -p no:cacheprovider -m gpu
stream vits16_none dino_vits16 375x500 1000 none 4
stream vits16_bf16 dino_vits16 375x500 1000 bf16 0
stream vits8_none dino_vits8 480x640 200 none 2
stream vits8_bf16 dino_vits8 480x640 400 bf16 0
stream vits8_fp16 dino_vits8 480x640 400 fp16 0
for autocast in none bf16; do
    part "training_$autocast" 40 python -m benchmarks.training_rate --device cuda \
        --autocast "$autocast" --out "$out"
done
part patch_graph_1m 150 python -m benchmarks.patch_graph --only 1m --reference certified \
    --device cuda --no-peers --out "$out"
echo "$failed parts failed; $SECONDS s"
exit "$failed"

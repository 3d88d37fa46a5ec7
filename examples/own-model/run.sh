#!/usr/bin/env bash
# Aligns a model of one's own. Without settings: stories260K, alpaca demonstrations and the helpful half of hh-rlhf.
#   MODEL=… DEMONSTRATIONS=… COMPARISONS=… PROMPTS=… OUT=… examples/own-model/run.sh [key=value …]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
shared="${HEED_SHARED:-$root/../shared}"
heed="${HEED:-$root/.venv/bin/heed}"
out="${OUT:-runs/own-model}"
mkdir -p "$out"

model="${MODEL:-$shared/models/stories260K}"
comparisons="${COMPARISONS:-$shared/data/preferences/hh-rlhf/helpful-base.jsonl.gz}"
demonstrations="${DEMONSTRATIONS:-$out/demonstrations.jsonl}"
prompts="${PROMPTS:-$out/prompts.jsonl}"

# 2,000 rows to imitate and 400 others whose questions PPO answers; Heed takes the questions from whole rows.
alpaca="$shared/data/instructions/alpaca-52k.jsonl.gz"
if [ -z "${DEMONSTRATIONS:-}" ]; then { gzip -dc "$alpaca" || true; } 2>/dev/null | head -n 2000 > "$demonstrations"; fi
if [ -z "${PROMPTS:-}" ]; then { gzip -dc "$alpaca" || true; } 2>/dev/null | sed -n '2001,2400p;2400q' > "$prompts"; fi

"$heed" check "$demonstrations" model="$model" kind=demonstrations
"$heed" check "$comparisons" model="$model" kind=comparisons
"$heed" check "$prompts" model="$model" kind=prompts other="$demonstrations"

# This model's vocabulary of 512 tokens makes rows long: a tenth of the files does not fit into its 512 tokens.
"$heed" align --model "$model" --demonstrations "$demonstrations" --comparisons "$comparisons" --prompts "$prompts" \
  --out "$out" --threads 1 \
  sft.length=512 sft.epochs=1 sft.max_bad_rows=0.2 \
  reward_model.max_bad_rows=0.4 reward_model.held_out_share=0.1 \
  ppo.steps=40 ppo.max_bad_rows=0.2 evaluate.max_bad_rows=0.2 \
  --json "$@"

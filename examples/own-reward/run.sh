#!/usr/bin/env bash
# A small model of the village learns to please my_reward.py, or the file that REWARD names.
#   REWARD=… OUT=… examples/own-reward/run.sh [settings of heed ppo]
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
heed="${HEED:-$here/../../.venv/bin/heed}"
out="${OUT:-runs/own-reward}"
reward="${REWARD:-$here/my_reward.py}"
small="${SMALL:-}"  # settings for a test of a few seconds

"$heed" village out="$out" name=words corpus=4000 corpus_dev=200 demonstrations=2000 demonstrations_dev=200 \
  prompts=1000 prompts_dev=200 prompts_test=0 ${small:+corpus=300 demonstrations=100}
"$heed" pretrain tiny out="$out" name=words data="$(echo "$out"/village/words-*)" steps="${small:-300}" threads=1
"$heed" sft tiny out="$out" name=words model="$(echo "$out"/pretrain/words-*)" data="$(echo "$out"/village/words-*)" \
  steps="${small:-150}" threads=1
"$heed" ppo tiny out="$out" name=pleased model="$(echo "$out"/sft/words-*)" prompts="$(echo "$out"/village/words-*)" \
  reward="$reward" critic.init=policy steps="${small:-60}" threads=1 ${small:+rollouts=4 minibatch=4 watch=4} "$@"

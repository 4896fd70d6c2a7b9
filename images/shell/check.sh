#!/bin/bash
# What the Shell image promises, used once. It stays in the image, so that a session can run it.
set -euo pipefail
cd "$(mktemp -d)"
trap 'rm -rf "$PWD"' EXIT

printf 'a,1\nb,2\n' >table.csv
[ "$(awk -F, '{s += $2} END {print s}' table.csv)" = 3 ]
[ "$(find . -name '*.csv' -printf '%s %f\n')" = '8 table.csv' ]
[ "$(grep -rHnFZ b, . | tr '\0' '|')" = './table.csv|2:b,2' ]
[ "$(printf 'aGk=' | base64 -d)" = hi ]
[ "$(ls -1apL | head -n 3 | tr '\n' ' ')" = './ ../ table.csv ' ]
[ "$(rg -0l b, | tr '\0' '|')" = 'table.csv|' ]
[ "$(echo '{"a": [1, 2]}' | jq -c '.a | add')" = 3 ]
[ "$(python3 -c 'import json, sqlite3, ssl
print(json.dumps([1]))')" = '[1]' ]
python3 -m pip --version
[ "$(node -e 'console.log([1, 2].map(x => x * 2).join())')" = 2,4 ]
npm --version
printf '#include <stdio.h>\nint main(void) { puts("built"); }\n' >hello.c
make -s hello CC=gcc
[ "$(./hello)" = built ]
git init -q . && git -c user.name=x -c user.email=x@example.com commit -q --allow-empty -m first
[ "$(git log --format=%s)" = first ]
zip -q table.zip table.csv && [ "$(unzip -p table.zip | sha256sum)" = "$(sha256sum <table.csv)" ]
tar -czf table.tgz table.csv && tar -tJf <(tar -cJf - table.csv) && zstd -q table.csv && xz -k table.csv
[ "$(sqlite3 :memory: 'select 6 * 7')" = 42 ]
[ "$(echo '2 ^ 64' | bc)" = 18446744073709551616 ]
[ "$(LC_ALL=en_US.UTF-8 printf "%'d" 1234567)" = 1,234,567 ]
for program in curl wget rsync file less openssl patch ssh tree xxd column ed vim ps killall lsof uuidgen envsubst; do
	command -v "$program"
done

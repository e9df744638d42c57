#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A whole job with curl, wget and sed, as the service's own pages tell it: vendor_client.sh BASE KEY CASE FOLDER LONG
# (CASE and LONG are .tar.gz files; LONG goes on until it is stopped.)
# It prints the ids and states that it saw; the result is CUSTOM-SCRIPT.tar.gz in the current directory.
set -eu -o pipefail
base=$1 apikey=$2 case=$3 folder=$4 long=$5

api() { # METHOD PATH [JSON]
  if [ $# -gt 2 ]; then
    curl -s -X "$1" "$base$2" -H 'accept: application/json' -H 'Content-Type: application/json' -H "X-API-key: $apikey" -d "$3"
  else
    curl -s -X "$1" "$base$2" -H 'accept: application/json' -H "X-API-key: $apikey"
  fi
}
string() { sed -n 's/.*"response": *"\([^"]*\)".*/\1/p' | sed 's#\\/#/#g'; }
number() { grep -o "\"$1\": *\"\{0,1\}[0-9]\+" | head -n 1 | grep -o '[0-9]\+$'; }
url() { python3 -c 'import json,sys; r=json.load(sys.stdin)["response"]; print(r if isinstance(r,str) else r.get("url") or r.get("mediaLink"))'; }
launch() { api POST /simulation/add "{\"cpu\": \"1\", \"ram\": \"standard\", \"script\": \"custom-script\", \"folder\": \"$1\", \"mesh\": \"\", \"nopre\": \"0\"}" | number response; }
until_status() { # ID STATUS
  for _ in $(seq 150); do
    status=$(api GET "/simulation/view-short/$1" | number status)
    [ "$status" = "$2" ] && return
    sleep 0.1
  done
  echo "simulation $1 has status $status, not $2" >&2
  exit 1
}
upload() { # FILE FOLDER
  link=$(api POST /storage/upload-url "{\"dirname\": \"$2\", \"filename\": \"upload.tar.gz\", \"contentType\": \"application/octet-stream\"}" | url)
  curl -sf -X PUT -H 'Content-Type: application/octet-stream' -T "$1" "$link"
  api DELETE /user/delete-cache > /dev/null
}

api GET /simulation/view-cpu | grep -q 8
api GET /simulation/view-scripts | grep -q '"custom-script"'

upload "$case" "$folder"
id=$(launch "$folder")
until_status "$id" 10
file=$(api POST /storage/view-by-path "{\"path\": \"$folder/CUSTOM-SCRIPT.tar.gz\"}" | number id)
wget -q -O CUSTOM-SCRIPT.tar.gz "$(api GET "/storage/download/$file" | url)"
echo "completed $id"

# One that goes on until it is stopped: its first results are asked for while it runs.
upload "$long" "$folder-long"
id=$(launch "$folder-long")
until_status "$id" 30
api GET /simulation/index-short/edate/asc/1 | grep -q "\"id\": *\"\{0,1\}$id"
for _ in $(seq 150); do
  api GET "/simulation/view/$id" | grep -q 'solver says hello' && break
  sleep 0.1
done
api PUT "/simulation/sync/$id" > /dev/null
api PUT "/simulation/stop/$id" '{ "signal": "SIGTSTP" }' > /dev/null
until_status "$id" 50
echo "stopped $id"

# All pages, until one is empty.
page=1
while api GET "/simulation/index-short/id/desc/$page" | grep -q '"id"'; do page=$((page + 1)); done
echo "pages $((page - 1))"
